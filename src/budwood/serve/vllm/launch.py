"""Runs vLLM's server inside its own Python, and ends it when whoever started it is gone. Standard library only.

The starter holds the other end of our standard input. When it dies, by whatever signal, that end closes, and a server that
nobody watches must not go on with an adapter that nobody can take back.
"""

import os
import runpy
import signal
import threading


def _end_with_starter() -> None:
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_end_with_starter, name="wait for the starter's end", daemon=True).start()
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__", alter_sys=True)
