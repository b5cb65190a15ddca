"""What lies beside a snapshot's rows for people and for other tools: the card, and the Croissant description of the files.

describe(draft.folder, body)     # the row files are in the folder already
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from budwood.identity import digest_file
from budwood.prepare.card import write_card
from budwood.prepare.croissant import croissant
from budwood.prepare.row import SPLITS

CARD, CROISSANT = "card.md", "croissant.json"


def describe(folder: Path, body: Mapping[str, Any]) -> None:
    """Write both into a snapshot's folder."""
    (folder / CARD).write_text(write_card(body), encoding="utf-8", newline="\n")
    rows = [folder / f"{name}.jsonl" for name in sorted((*SPLITS, "rejected"))]
    files = {path.name: (digest_file(path), path.stat().st_size) for path in rows}
    text = json.dumps(croissant(body, files), indent=2, ensure_ascii=False) + "\n"
    (folder / CROISSANT).write_text(text, encoding="utf-8", newline="\n")
