"""A vLLM server that Budwood starts from the Python of another environment, watches, and ends.

It listens on a Unix socket in a folder that only this user can enter: a good part of vLLM's endpoints ask for no key, and
none of them is anybody else's business. It gets a key all the same.
"""

import contextlib
import os
import secrets
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from budwood.errors import ServeError
from budwood.serve.vllm import launch
from budwood.serve.vllm.client import VllmClient

STOP_S = 20.0
LOG_LINES = 12
_UNWANTED = ("PYTHONPATH", "PYTHONHOME", "VLLM_SERVER_DEV_MODE", "VLLM_PLUGINS", "VLLM_LORA_RESOLVER_CACHE_DIR")
"""Of our own Python, endpoints that hand out more than answers, and other ways for adapters to come in."""


@dataclass(frozen=True)
class Launch:
    """How to start a server.

    Args:
        python: of the environment that has vLLM.
        model: folder of the base or of a full model.
        folder: for socket and log; nobody else may enter it.
        dtype: in which it computes.
        max_rank: largest rank of an adapter.
        max_loras: adapters in one batch.
        max_requests: requests in one batch.
        arguments: further ones, as the user wrote them.
    """

    python: str
    model: Path
    folder: Path
    dtype: str
    max_rank: int
    max_loras: int
    max_requests: int
    arguments: Sequence[str] = ()

    @property
    def socket(self) -> Path:
        return self.folder / "http"

    @property
    def command(self) -> list[str]:
        # fmt: off
        return [
            self.python, launch.__file__,
            "--uds", str(self.socket),
            "--model", str(self.model), "--served-model-name", "base",
            "--dtype", self.dtype,
            "--enable-lora", "--max-lora-rank", str(self.max_rank), "--max-loras", str(self.max_loras),
            # One that falls out of this many is read from its folder again at its next request.
            "--max-cpu-loras", str(4 * self.max_loras),
            "--max-num-seqs", str(self.max_requests),
            # A model's own ideas of temperature and top_p are no part of a release.
            "--generation-config", "vllm", "--logprobs-mode", "raw_logprobs",
            # Blanks between the parts of JSON are free otherwise, and a weak model fills its whole answer with them.
            "--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}',
            "--uvicorn-log-level", "warning",
            *self.arguments,
        ]
        # fmt: on

    def environment(self, key: str) -> Mapping[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
        return {
            **kept,
            "VLLM_API_KEY": key,
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
        }


class Process:
    """One server, started again as often as need be, always with the same socket and key."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._key = secrets.token_urlsafe(32)
        self._child: subprocess.Popen[bytes] | None = None
        self.log = launch.folder / "vllm.log"

    @property
    def pid(self) -> int | None:
        return None if self._child is None else self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def client(self) -> VllmClient:
        return VllmClient("http://vllm", key=self._key, socket=self._launch.socket)

    def start(self) -> None:
        """Start it; it is up when its `/health` says so.

        Raises:
            ServeError: there is no such Python.
        """
        self._end()
        self._launch.socket.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            try:
                self._child = subprocess.Popen(
                    self._launch.command,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._launch.environment(self._key),
                    cwd=self._launch.folder,
                    start_new_session=True,
                )
            except OSError as error:
                raise ServeError(
                    f"vLLM cannot be started with {self._launch.python!r}: {error.strerror}.",
                    where="[serve] vllm_python",
                    mend="Name the Python of an environment that has vLLM, e.g. .venv-vllm/bin/python (`make test-vllm`).",
                ) from None

    def died(self) -> ServeError:
        """Why it is not running any more, as far as its log says."""
        code = None if self._child is None else self._child.poll()
        return ServeError(
            f"The vLLM server ended by itself (exit status {code}). The end of its log:\n{self._tail()}",
            where=str(self.log),
            mend="Memory is the usual reason: VLLM_CPU_KVCACHE_SPACE or --gpu-memory-utilization sets the size of its cache.",
        )

    def stop(self) -> None:
        """Ask it to end, and see to it."""
        child = self._child
        if child is not None and child.poll() is None:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(STOP_S)
        self._end()

    def _end(self) -> None:
        """End what is left of it: vLLM's engine is a process of its own, and outlives a server that was killed."""
        child = self._child
        if child is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        if child.stdin is not None:
            child.stdin.close()
        self._child = None

    def _tail(self) -> str:
        try:
            lines = self.log.read_text("utf-8", "replace").splitlines()
        except OSError:
            return "(no log)"
        return "\n".join(lines[-LOG_LINES:]) or "(empty)"
