"""Fixtures that several rooms share."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def public_data() -> Path:
    """Folder with the public data sets, or a skip that says where it was looked for."""
    folder = Path(os.environ.get("BUDWOOD_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no public data at {folder}; set BUDWOOD_DATA to a folder that holds banking77/")
    return folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of an empty database of a PostgreSQL that lives for this session, behind a socket in a temporary folder."""
    binaries = _postgres_binaries()
    memory = Path("/dev/shm")
    with TemporaryDirectory(prefix="pg", dir=memory if os.access(memory, os.W_OK) else "/tmp") as folder:
        # It refuses to run as root, so root gives the folder to somebody and runs it as him.
        user = next((name for name in ("postgres", "nobody") if os.getuid() == 0 and _has_user(name)), None)
        if user is not None:
            shutil.chown(folder, user)
        rights: dict[str, Any] = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}
        data, log = Path(folder) / "data", Path(folder) / "log"

        def run(*command: object) -> None:
            words = [str(word) for word in command]
            done = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **rights)
            assert done.returncode == 0, done.stdout.decode(errors="replace")

        run(binaries / "initdb", "-D", data, "-U", "budwood", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off -c shared_buffers=16MB"
        start = [binaries / "pg_ctl", "-D", data, "-w", "-l", log, "-o", options, "start"]
        # Its output would keep our pipe open for as long as the server runs.
        subprocess.run([str(word) for word in start], cwd=folder, stdout=subprocess.DEVNULL, check=True, **rights)
        try:
            yield f"postgresql+psycopg://budwood@/postgres?host={quote(folder, safe='')}"
        finally:
            run(binaries / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


def _postgres_binaries() -> Path:
    pytest.importorskip("psycopg", reason="PostgreSQL needs psycopg: pip install 'budwood[postgres]'")
    known = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr/local").glob("pgsql*/bin")]
    found = [Path(path).parent for path in [shutil.which("initdb")] if path]
    found += sorted(known, key=lambda path: (len(path.parent.name), path.parent.name), reverse=True)
    for folder in found:
        if all((folder / name).exists() for name in ("initdb", "pg_ctl", "postgres")):
            return folder
    pytest.skip("no PostgreSQL on this machine; Debian's package `postgresql` has initdb and pg_ctl")


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
