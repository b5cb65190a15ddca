"""OpenAI's JavaScript client, installed into a folder of the test by npm."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent / "js" / "client.mjs"
INSTALL_S = 300


@pytest.mark.slow
def test_the_javascript_client_understands_every_endpoint(garden: Any, tmp_path: Path) -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed")
    shutil.copy(SCRIPT, tmp_path / "client.mjs")
    install = [npm, "install", "--prefix", str(tmp_path), "--ignore-scripts", "--no-audit", "--no-fund", "openai@6"]
    done = subprocess.run(install, capture_output=True, text=True, check=False, timeout=INSTALL_S)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install the client here: {done.stderr.strip().splitlines()[-1:]}")
    nursery, server = garden
    run = [node, str(tmp_path / "client.mjs"), server.url, "any"]
    told = subprocess.run(run, capture_output=True, text=True, check=False, timeout=120)
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    soil = nursery.soil
    answer, _ = soil.reference(0, soil.template.encode_prompt([{"role": "user", "content": "Where is my parcel?"}]), 8)
    assert found["chat"] == found["streamed"] == soil.text(answer)
    release = nursery.store.find_release("support").digest
    assert found["fingerprint"] == found["release"] == release
    assert found["requestId"].startswith("req_")
    assert found["usage"] == found["streamedUsage"]
    assert found["completion"].startswith("parcel")
    assert {"support", "support@staging", "plain"} <= set(found["models"])
    assert found["model"] == "support@production"
    assert found["unknown"] == {"kind": "NotFoundError", "status": 404, "code": "model_not_found", "param": "model"}
    assert found["wrong"] == {"kind": "BadRequestError", "status": 400, "code": "invalid_value", "param": "n"}
