"""What several acceptance tests share."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., subprocess.CompletedProcess[str]]


def environment() -> dict[str, str]:
    return {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}


def adapter_of(run: Run, folder: Path, store: Path) -> str:
    """Digest of what the recipe's training gives; trains only if that has not been done."""
    done = run("train", "recipe.toml", "--store", store, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["result"])
