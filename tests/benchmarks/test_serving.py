"""The serving benchmarks run on tiny shapes; the soak's verdict holds for a thousand requests."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.slow
def test_every_answer_of_a_soak_is_what_its_release_gives_alone() -> None:
    command = [sys.executable, "serve_soak.py", "--requests", "1000", "--moves", "40", "--precision", "bfloat16"]
    done = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1,000 answers" in done.stdout
    assert "0 failed, 0 wrong" in done.stdout
    assert "40 moves of the alias" in done.stdout


@pytest.mark.slow
def test_a_tiny_comparison_gives_a_table_and_a_file(tmp_path: Path) -> None:
    page, file = tmp_path / "page.md", tmp_path / "found.json"
    page.write_text("before\n<!-- served: begin -->\nold\n<!-- served: end -->\nafter\n")
    sides = ["budwood", "vllm", *(["transformers"] if importlib.util.find_spec("peft") is not None else [])]
    command = [sys.executable, str(BENCHMARKS / "serve_vs_peers.py"), "--shapes", "tiny", "--in-flight", "2"]
    command += ["--adapters", "0", "2", "--sides", *sides, "--json", str(file), "--page", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    cells = json.loads(file.read_text())["cells"]
    assert {cell["trial"]["side"] for cell in cells if cell["found"]} == set(sides) - {"vllm"}
    assert {cell["fault"] for cell in cells if not cell["found"]} == {"no vLLM here: --vllm names no virtual environment"}
    assert page.read_text().startswith("before\n")
    assert "old" not in page.read_text()
    assert "| 2 zipf | budwood |" in page.read_text()
    assert "2 in flight" in done.stdout
