"""Files of sampled requests: appended to, shortened and dropped by several processes, on a disk that may be full."""

import errno
import os
from datetime import date
from pathlib import Path
from threading import Thread

import pytest

from budwood.store import traffic

DAY = date(2026, 11, 26)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return traffic.place(tmp_path, "support", "served", DAY, "host:8321:7")


def test_a_place_says_what_it_holds(tmp_path: Path, file: Path) -> None:
    plain = traffic.place(tmp_path, "support", "served-plain", DAY, "host:8321:7")
    for path in (file, plain):
        traffic.append(path, [b"{}"])
    assert file.name == "served-2026-11-26-host_8321_7.jsonl"
    assert [traffic.kind_of(path) for path in traffic.files(tmp_path)] == ["served", "served-plain"]
    assert traffic.files(tmp_path, "support", kinds=["served"]) == [file]
    assert traffic.files(tmp_path, "other") == []
    assert (os.stat(file).st_mode & 0o777, os.stat(file.parent).st_mode & 0o777) == (0o600, 0o700)


def test_old_days_go_and_younger_ones_stay(tmp_path: Path) -> None:
    for day in (date(2026, 10, 26), date(2026, 10, 27), DAY):
        traffic.append(traffic.place(tmp_path, "support", "served", day, "s"), [b"{}"])
    assert [path.name for path in traffic.drop_older(tmp_path, 30, DAY)] == ["served-2026-10-26-s.jsonl"]
    assert len(traffic.files(tmp_path)) == 2


def test_a_disk_that_fills_in_the_middle_leaves_whole_lines(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traffic.append(file, [b"first"])
    original = os.write

    def half(handle: int, data: bytes) -> int:
        if len(data) > 3:
            return original(handle, bytes(data)[:3])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space"):
        traffic.append(file, [b"second"])
    monkeypatch.undo()
    assert file.read_bytes() == b"first\n"


def test_half_a_line_of_a_killed_process_does_not_swallow_the_next(file: Path) -> None:
    traffic.append(file, [b"first"])
    with file.open("ab") as torn:
        torn.write(b'{"messages": [')
    traffic.append(file, [b"second"])
    assert file.read_bytes().splitlines() == [b"first", b'{"messages": [', b"second"]


def test_no_line_is_lost_while_others_are_taken_out(file: Path) -> None:
    """The file is replaced under those who append; each of them finds the new one."""

    def write(kind: bytes) -> None:
        for number in range(150):
            traffic.append(file, [kind + b"%d" % number])

    writers = [Thread(target=write, args=(kind,)) for kind in (b"keep", b"drop")]
    for writer in writers:
        writer.start()
    taken = 0
    while any(writer.is_alive() for writer in writers):
        taken += traffic.shorten(file, lambda line: not line.startswith(b"drop"))
    taken += traffic.shorten(file, lambda line: not line.startswith(b"drop"))
    assert taken == 150
    assert file.read_bytes().splitlines() == [b"keep%d" % number for number in range(150)]


def test_a_file_without_lines_goes(file: Path) -> None:
    traffic.append(file, [b"a", b"b"])
    assert traffic.shorten(file, lambda line: False) == 2
    assert not file.exists()
    assert traffic.shorten(file, lambda line: False) == 0
