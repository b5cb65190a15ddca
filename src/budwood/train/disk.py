"""Writing into the work folder: a disk that refuses is a plain error, and nothing half-written stays."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from budwood.errors import TrainingError


@contextmanager
def writing(what: str, folder: Path, *, scratch: Path | None = None, mend: str) -> Iterator[None]:
    """Guard the writing of one thing.

    Args:
        what: it, as the error's subject: "The checkpoint of step 300".
        folder: where it goes.
        scratch: file or folder that is removed when writing fails.
        mend: what to do about it.

    Raises:
        TrainingError: the disk is full, may not be written, or fails.
    """
    # On a full disk safetensors raises an error of its own, which is no OSError.
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        if scratch is not None and scratch.is_dir():
            shutil.rmtree(scratch, ignore_errors=True)
        elif scratch is not None:
            scratch.unlink(missing_ok=True)
        raise TrainingError(f"{what} could not be written: {error}.", where=str(folder), mend=mend) from error
