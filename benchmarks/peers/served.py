"""A server in a process of its own, so that whoever loads and times it takes no time of its threads."""

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from budwood.recipe import ServeSection

PATIENCE_S = 600.0


@dataclass(frozen=True)
class Served:
    """Where it listens, its process, and the seconds from its start until it followed the catalog."""

    url: str
    pid: int
    start_s: float

    @property
    def resident_bytes(self) -> int:
        """Memory of the process that is in RAM now (Linux)."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    @property
    def processor_s(self) -> float:
        """Processor time that the process has used, all threads together (Linux)."""
        after_name = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def served(store: Path, section: "ServeSection", *, threads: int = 1) -> Iterator[Served]:
    """Serve a store until the end of the block.

    Raises:
        RuntimeError: it does not follow the catalog within ten minutes.
    """
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    process = context.Process(target=_serve, args=(store, section, threads, its))
    process.start()
    try:
        if not ours.poll(PATIENCE_S):
            raise RuntimeError("the server does not come up")
        url, start_s = ours.recv()
        assert process.pid is not None
        yield Served(url, process.pid, start_s)
        ours.send("stop")
        process.join(PATIENCE_S)
    finally:
        process.kill()
        process.join()


def _serve(folder: Path, section: "ServeSection", threads: int, pipe: "Connection[tuple[str, float], str]") -> None:
    import time

    import torch

    from budwood.serve.run import Server
    from budwood.store import open_store

    torch.set_num_threads(threads)
    began = time.perf_counter()
    with open_store(folder) as store, Server(store, section) as server:
        while not server.synced.wait(0.05):
            server.check_alive()
        pipe.send((server.url, time.perf_counter() - began))
        pipe.recv()
