"""The fuzzer over what reads strangers' files: a minute here, longer with BUDWOOD_FUZZ_S (seconds)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = int(os.environ.get("BUDWOOD_FUZZ_S", "60"))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 3 + 300)
def test_no_bytes_make_a_reader_fail_otherwise_than_by_our_errors(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    (tmp_path / "corpus").mkdir()
    done = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("readers.py")),
            str(tmp_path / "corpus"),
            f"-max_total_time={SECONDS}",
            f"-artifact_prefix={tmp_path}/",
            "-rss_limit_mb=2048",
            "-timeout=20",
            "-seed=1",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    assert "DONE" in done.stderr
