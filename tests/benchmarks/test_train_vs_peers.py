"""The benchmark runs on a tiny shape: Budwood and the products alone, and TRL where it is installed."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.devices import DEVICES, computes_on

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "train_vs_peers.py"
SMALL = ["--shapes", "tiny", "--tokens", "400", "--methods", "lora", "--steps", "2", "--threads", "1"]


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_a_tiny_run_gives_a_table_and_a_file(tmp_path: Path, device: str) -> None:
    computes_on(device)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nafter\n")
    sides = ["--sides", "budwood", "products alone"]
    if importlib.util.find_spec("trl") is not None:
        sides.append("trl as shipped")
    command = [
        sys.executable,
        str(PROGRAM),
        *SMALL,
        *sides,
        "--device",
        device,
        "--json",
        str(tmp_path / "found.json"),
        "--page",
        str(page),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "| budwood |" in done.stdout
    assert "| products alone |" in done.stdout
    cells = json.loads((tmp_path / "found.json").read_text())["cells"]
    assert [cell["fault"] for cell in cells] == [""] * (len(sides) - 1)
    losses = [cell["found"]["first_loss"] for cell in cells if cell["trial"]["side"] != "products alone"]
    assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-3)
    written = page.read_text()
    assert written.startswith("before\n")
    assert written.endswith("after\n")
    assert "old" not in written
    assert "| budwood |" in written

    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "tokens/s" not in again.stderr, "what the file holds was measured again"
    assert again.stdout == done.stdout
