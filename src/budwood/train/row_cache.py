"""Tokens of a split, kept in the work folder: an interrupted training does not read and render its rows again."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budwood.errors import TrainingError
from budwood.train.disk import writing

if TYPE_CHECKING:
    from budwood.engine.packed import Encoded


def cached(path: Path, make: "Callable[[], list[Encoded]]") -> "list[Encoded]":
    """Give the tokens in `path`, or make and keep them. The path must be named by all that the tokens depend on.

    Raises:
        TrainingError: they cannot be kept, or what was kept is damaged.
    """
    if path.is_file():
        return _read(path)
    encoded = make()
    _write(path, encoded)
    return encoded


def _write(path: Path, encoded: "Sequence[Encoded]") -> None:
    import numpy as np
    from safetensors.numpy import save_file

    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    columns: dict[str, np.ndarray[Any, Any]] = {
        "ids": np.array([token for row in encoded for token in row.ids], dtype=np.int32),
        "supervised": np.array([mark for row in encoded for mark in row.supervised], dtype=np.uint8),
        "lengths": np.array([len(row.ids) for row in encoded], dtype=np.int64),
    }
    with writing("The rows' tokens", path.parent, scratch=scratch, mend="Free some space, then run the same command again."):
        save_file(columns, scratch)
        os.replace(scratch, path)


def _read(path: Path) -> "list[Encoded]":
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    from budwood.engine.packed import Encoded

    try:
        columns = load_file(path)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"The rows' tokens cannot be read: {error}.", where=str(path), mend="Delete that file; it is made again."
        ) from error
    ends = np.cumsum(columns["lengths"]).tolist()
    starts = [0, *ends][:-1]
    ids, marks = columns["ids"].tolist(), columns["supervised"].astype(bool).tolist()
    return [Encoded(tuple(ids[a:b]), tuple(marks[a:b])) for a, b in zip(starts, ends, strict=True)]
