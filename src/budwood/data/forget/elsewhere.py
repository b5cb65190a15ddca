"""Every other file of a store: is the text in one of them, and may that one go?

Pages beside objects may: they are made again. What is part of an object of another kind, of the history or of a file that
nobody here knows is only named.
"""

import html
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from budwood.data.forget.found import Attachment, Place
from budwood.data.forget.wanted import Wanted
from budwood.events import Event, Reporter
from budwood.identity import Digest
from budwood.prepare.vectors import PREFIX
from budwood.store import Store
from budwood.store.traffic import FOLDER

PIECE = 1 << 20
OVERLAP = 1 << 12
"""Characters that two neighbouring pieces share: a text on their border is found as long as it is no longer."""
_SPELLED = re.compile(r"\\u([0-9a-fA-F]{4})")
NUMBERS = (".safetensors", ".bin")
"""Weights, and columns of the token tables, which go with their snapshot."""


def kept_probes(store: Store) -> tuple[tuple[str, str], ...]:
    """List measurements of golden probes that wait in work folders for a release to be made: key and name."""
    return _in_work(store, "probes.json")


def kept_vectors(store: Store) -> tuple[tuple[str, str], ...]:
    """List vectors of texts that a preparation which was cut short has left: key and name."""
    return _in_work(store, f"{PREFIX}*")


def _in_work(store: Store, names: str) -> tuple[tuple[str, str], ...]:
    found = sorted((store.root / "work").glob(f"*/{names}"))
    return tuple((path.parent.name, path.name) for path in found)


def look_elsewhere(
    store: Store, wanted: Wanted, gone: set[Digest], report: Reporter
) -> tuple[tuple[Attachment, ...], tuple[Place, ...]]:
    """Look through the files of a store that are no rows and no cases; objects that are `gone` are passed over.

    Returns:
        Attachments that hold the text and may go; all other places that hold it.
    """
    attachments: list[Attachment] = []
    places: list[Place] = []
    if not wanted.has_text:
        return (), ()
    for number, path in enumerate(_files(store.root)):
        report(Event("forget", "Looking through other files", done=number + 1, unit="files"))
        parts = path.relative_to(store.root).parts
        owner = parts[2] if parts[0] in ("objects", "attestations") and len(parts) > 3 else ""
        cached = parts[0] == "cache" and parts[1] in gone
        if owner in gone or cached or not in_file(path, wanted):
            continue
        if parts[0] == "attestations" and parts[3] == "files":
            attachments.append(Attachment(Digest(owner), "/".join(parts[4:])))
        else:
            places.append(Place("/".join(parts), _why(store, owner, parts)))
    return tuple(attachments), tuple(places)


def _files(root: Path) -> Iterator[Path]:
    for here, folders, names in os.walk(root, followlinks=False):
        # Sampled requests are looked through line by line, like rows.
        folders[:] = sorted(name for name in folders if Path(here) != root or name not in ("tmp", FOLDER))
        for name in sorted(names):
            path = Path(here) / name
            # Rows and cases are looked through line by line, where it is known what is text and what is not.
            if not name.endswith(NUMBERS) and not (name.endswith(".jsonl") and path.relative_to(root).parts[0] == "objects"):
                yield path


def in_file(path: Path, wanted: Wanted) -> bool:
    """Look for the text in a file of whatever kind, as it is written there and as JSON or HTML mean it."""
    if path.suffix == ".json" and path.stat().st_size < 64 * PIECE:
        try:
            return wanted.in_value(json.loads(path.read_bytes().decode("utf-8", "surrogatepass")))
        except ValueError:
            pass  # then it is looked through as it is written
    with path.open(encoding="utf-8", errors="replace") as file:
        before = ""
        while piece := file.read(PIECE):
            if wanted.in_text(_unescaped(before + piece)):
                return True
            before = piece[-OVERLAP:]
    return False


def _unescaped(text: str) -> str:
    """Read what HTML and the JSON of scripts within it spell out."""
    return html.unescape(_SPELLED.sub(lambda found: chr(int(found[1], 16)), text))


def _why(store: Store, owner: str, parts: tuple[str, ...]) -> str:
    if parts[0] == "objects" and parts[-1] == "manifest.json":
        kind = store.manifest(owner).kind
        return f"what the {kind} says of itself holds the text (names of files, notes): make it again without"
    if parts[0] == "objects":
        return f"part of a {store.manifest(owner).kind} that answers are made with: make it again without"
    if parts[0] == "attestations":
        return "what was noted beside the object holds the text: make it again without"
    if parts[0].startswith("catalog"):
        return "a name or a reason in the history holds the text; the history is never rewritten"
    return "not written by what takes rows out: delete it yourself"
