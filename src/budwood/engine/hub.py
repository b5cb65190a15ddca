"""Fetch a base from the hub with the hub's own client, pinned to a commit."""

import re
from pathlib import Path
from typing import cast

from budwood.errors import BaseError

REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
COMMIT = re.compile(r"[0-9a-f]{40}")
WANTED = ("*.json", "*.safetensors", "*.jinja", "*.model", "merges.txt", "vocab.txt")
"""What a base needs. Pickles and code are not even downloaded."""
UNWANTED = ("*/*", "consolidated*", "adapter_*")
"""Second copies of the weights in other layouts, and what lies in subfolders."""


def split_id(id: str) -> tuple[str, str | None]:
    """Split org/name@revision.

    Raises:
        BaseError: it has another form.
    """
    repo, _, revision = id.partition("@")
    if not REPO.fullmatch(repo) or (id != repo and not revision):
        raise BaseError(
            f"There is no base {id!r}: neither a folder, nor bundled, nor of the form org/name@revision.",
            where="[base] id",
            mend='Use "seedling", a folder with config.json and *.safetensors, or org/name@revision.',
        )
    return repo, revision or None


def fetch(id: str, *, cache: Path | None, endpoint: str | None) -> tuple[Path, str]:
    """Download what is not there yet and return the folder and the commit that the revision stands for.

    Without a revision that is the newest commit of the repository's main branch. A commit that is in the cache needs no hub.

    Raises:
        BaseError: the repository or revision does not exist, may not be read, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repo, revision = split_id(id)
    # The client's HTTP library differs between its versions; its own error class derives from that library's.
    transport_errors = cast(tuple[type[Exception], ...], (OSError, *HfHubHTTPError.__bases__))
    try:
        pinned = revision is not None and COMMIT.fullmatch(revision) is not None
        commit = str(revision if pinned else HfApi(endpoint=endpoint).model_info(repo, revision=revision).sha)
        folder = snapshot_download(
            repo,
            revision=commit,
            cache_dir=cache,
            endpoint=endpoint,
            allow_patterns=list(WANTED),
            ignore_patterns=list(UNWANTED),
            max_workers=2,
        )
    except LocalEntryNotFoundError as error:
        raise _unreachable(id, error) from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        raise BaseError(
            f"The hub has no {id!r} that can be read (HTTP {status}).",
            where="[base] id",
            mend="Check name and revision; a gated repository needs HF_TOKEN in the environment.",
        ) from error
    except transport_errors as error:
        raise _unreachable(id, error) from error
    return Path(folder), commit


def _unreachable(id: str, error: Exception) -> BaseError:
    return BaseError(
        f"The hub cannot be reached for {id!r} ({type(error).__name__}), and the base is not in the local cache.",
        where="[base] id",
        mend="Check the network, name a local folder, or pin a commit that was fetched before (org/name@commit).",
    )
