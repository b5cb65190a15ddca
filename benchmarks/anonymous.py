"""Anonymous memory of this process: what it holds itself, pages of mapped files left out."""

import threading
from pathlib import Path


class Watch:
    """Samples anonymous memory every millisecond until it is ended."""

    def __init__(self) -> None:
        self._most = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.001):
            self._most = max(self._most, anonymous())

    def end(self) -> int:
        self._over.set()
        self._thread.join()
        return self._most


def anonymous() -> int:
    """Bytes, as the kernel counts them now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))
