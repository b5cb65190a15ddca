"""The whole job on the bundled base: raw tickets to a served adapter, a second version, and back.

Runs the same commands that a user types and shows each; needs no network and no GPU. `make quickstart` calls it.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
QUESTION = "Hello, please find out where the parcel with my kettle is. My order number is B4-20913. I need an answer today."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=HERE, help="where data/ and .budwood/ are put (default: beside this file)"
    )
    parser.add_argument("--seed", type=int, default=7, help="seed of the generated tickets")
    folder = parser.parse_args().folder.resolve()
    walk(folder, seed=parser.parse_args().seed)


def walk(folder: Path, *, seed: int) -> None:
    """Do it all in `folder`; every step is a command that is printed before it runs."""
    started = time.monotonic()
    for name in ("recipe.toml", "recipe-v2.toml", "answer.schema.json"):
        if folder != HERE:
            shutil.copy(HERE / name, folder / name)
    store = folder / ".budwood"

    say("1. Raw tickets: three files, with the dirt of real life planted in them")
    run([sys.executable, str(HERE / "generate.py"), "--seed", str(seed), "--out", str(folder / "data")])
    say("2. Plan, prepare, train, evaluate, release, and promote if the gate agrees")
    budwood("run", folder / "recipe.toml", "--store", store, "--reason", "first version")
    say("3. Serve it and ask over HTTP")
    with serving(store) as url:
        first = ask(url, "support-triage")
        say("4. A second version, trained on from the first and judged against it; the server keeps answering")
        budwood("run", folder / "recipe-v2.toml", "--store", store, "--no-promote")
        budwood("promote", "support-triage@2", "--store", store, "--wait", "60", "--reason", "newer tickets")
        second = ask(url, "support-triage")
        say("5. Take it back")
        budwood("rollback", "support-triage", "--store", store, "--wait", "60", "--reason", "quickstart shows the way back")
        back = ask(url, "support-triage")
    say("6. Where did that answer come from?")
    budwood("lineage", back[:12], "--store", store)
    budwood("verify", "--store", store)
    if not (first == back != second):
        sys.exit(f"The alias did not go there and back: {first[:12]}, {second[:12]}, {back[:12]}.")
    summary(store, minutes=(time.monotonic() - started) / 60)


def summary(store: Path, *, minutes: float) -> None:
    """Say what was done, where it lies and what to try next."""
    status = json.loads(capture("status", "--store", store, "--json"))
    shown = relative(store)
    say(f"Done in {minutes:.1f} minutes")
    for release in status["releases"]:
        print(
            f"  {release['name']}@{release['version']}  {release['digest'][:12]}  {release['verdict']:<12} {release['summary']}"
        )
    for alias in status["aliases"]:
        print(f"  {alias['name']}@{alias['alias']} points to version {alias['version']}")
    print(f"\nThe store with every object, answer and event: {shown}")
    for release in status["releases"]:
        print(f"  Report of version {release['version']}: {relative(Path(release['page']))}")
    print("\nTry next:")
    print(f"  .venv/bin/budwood serve --store {shown}")
    print(f'  .venv/bin/budwood ask support-triage "{QUESTION}"')
    print(f"  .venv/bin/budwood history support-triage --store {shown}")
    print("  .venv/bin/budwood recipe examples/support-triage/recipe.toml --show")


@contextmanager
def serving(store: Path) -> Iterator[str]:
    """Start `budwood serve` on a free port; stop it when the block ends."""
    command = ["serve", "--store", str(store), "--port", "0"]
    print(f"$ budwood {' '.join(['serve', '--store', relative(store), '--port', '0'])} &", flush=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "budwood", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield wait_for_url(process)
    finally:
        process.terminate()
        process.wait(timeout=60)


def wait_for_url(process: subprocess.Popen[str]) -> str:
    """Read the server's output until it says where it listens."""
    said: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        print(line, end="", flush=True)
        # The line with the models comes once they are loaded and their probes have passed.
        if found := re.search(r"(http://\S+:\d+)/v1 ", line):
            return found[1]
    sys.exit("The server stopped before it listened:\n" + "".join(said))


def ask(url: str, model: str) -> str:
    """Ask the question, show the answer, and return the digest of the release that gave it."""
    print(f'$ budwood ask {model} "{QUESTION}"', flush=True)
    answer: dict[str, Any] = json.loads(capture("ask", model, QUESTION, "--url", url, "--json"))
    print(f"{answer['choices'][0]['message']['content']}\n  answered by release {answer['system_fingerprint'][:12]}")
    return str(answer["system_fingerprint"])


def budwood(*arguments: object) -> None:
    words = [str(argument) for argument in arguments]
    print("$ budwood " + " ".join(relative(Path(word)) if "/" in word else word for word in words), flush=True)
    run([sys.executable, "-m", "budwood", *words])


def capture(*arguments: object) -> str:
    command = [sys.executable, "-m", "budwood", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def run(command: list[str]) -> None:
    code = subprocess.run(command).returncode
    if code:
        sys.exit(f"That ended with exit code {code}.")


def relative(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    main()
