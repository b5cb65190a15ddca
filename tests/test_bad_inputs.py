"""Every one of the 72 bad inputs has a test that says its number, as `bad_31` in its name or id.

    python -m pytest -k bad_31       # the tests of one
    python tests/test_bad_inputs.py    # which numbers have how many

What the numbers mean is told by the tests themselves: 1–26 weights of an adapter, 27–39 its settings, 40–47 adapter against
base, 48–62 names, store and archives, 63–70 evidence and gates, 71 requests, 72 the moments of a server.
"""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
NUMBERS = range(1, 73)
SAID = re.compile(r"bad_((?:\d{1,2}_)*\d{1,2})(?=[ _\]\-\[]|$)")


def counted() -> Counter[int]:
    """Number → how many tests say it."""
    # Only files that say any are collected: the others' imports would take most of the time.
    files = [
        path
        for path in sorted(TESTS.rglob("test_*.py"))
        if path != Path(__file__) and re.search(r"bad_[{\d]", path.read_text())
    ]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=TESTS.parent)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found: Counter[int] = Counter()
    for line in done.stdout.splitlines():
        name = line.partition("::")[2]
        found.update({int(number) for said in SAID.findall(name) for number in said.split("_")})
    return found


@pytest.mark.timeout(300)
def test_each_number_has_a_test() -> None:
    found = counted()
    assert [number for number in NUMBERS if not found[number]] == []
    assert [number for number in found if number not in NUMBERS] == []


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("test_x[bad_1 is too short]", ["1"]),
        ("test_bad_58_promote[bad_44 weights]", ["58", "44"]),
        ("test_bad_21_22_pickles", ["21_22"]),
        ("test_a_move[bad_58_promote]", ["58"]),
        ("test_bad_inputs", []),
        ("test_bad_580_x", []),
    ],
)
def test_numbers_are_read_from_names(name: str, numbers: list[str]) -> None:
    assert SAID.findall(name) == numbers


if __name__ == "__main__":
    for number, tests in sorted(({number: 0 for number in NUMBERS} | counted()).items()):
        print(f"{number:2}  {tests}")
