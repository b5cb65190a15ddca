"""A log of production prompts → a sample of them, redacted as they are read.

Any accepted row format, and logs without answers: `{"prompt": …}`, `{"messages": […]}`. In a conversation the last answer and
the system message are left out, as they are for rows. What is no prompt is counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budwood.data.report.balance import Columns
from budwood.data.report.clusters import prompt_of
from budwood.data.report.gather import PROMPTS, Prompt
from budwood.data.report.sample import Sample
from budwood.errors import DataError
from budwood.identity import digest_json
from budwood.prepare.files import open_file
from budwood.prepare.records import Record, records
from budwood.prepare.shapes import Misshapen, Shape, convert
from budwood.text.normalise import normalise
from budwood.text.pii import redact

if TYPE_CHECKING:
    from budwood.recipe import Recipe

PRODUCTION = "production"
_SHAPES: tuple[tuple[str, Shape], ...] = (
    ("messages", "messages"),
    ("conversations", "sharegpt"),
    ("instruction", "alpaca"),
    ("prompt", "prompt"),
)
"""The key by which a record of a log is recognised: an answer need not be there."""


@dataclass
class Production:
    """What a log holds.

    Args:
        file: its name.
        read: records.
        unusable: records without a prompt.
        prompts: some of the others.
        slices: how often which value, of the other columns.
    """

    file: str
    read: int = 0
    unusable: int = 0
    prompts: Sample[Prompt] = field(default_factory=lambda: Sample(PROMPTS))
    slices: Columns = field(default_factory=Columns)


def read_production(path: Path, recipe: "Recipe | None") -> Production:
    """Read a log.

    Args:
        path: the file.
        recipe: its columns are looked for where a record has none of the usual keys.

    Raises:
        DataError: the file cannot be read, or no record has a prompt.
    """
    found = Production(path.name)
    columns = [dict(source.columns) for source in recipe.source if source.columns] if recipe else []
    keys: dict[str, None] = {}
    if not path.is_file():
        raise DataError(f"There is no file {str(path)!r}.", where="--production", mend="Its path starts here; check it.")
    with open_file(path, shown=str(path)) as file:
        for record in records(file):
            found.read += 1
            taken = isinstance(record, Record) and _take(found, record.value, columns, digest_json([file.sha256, record.line]))
            found.unusable += not taken
            if not taken and isinstance(record, Record):
                keys.update(dict.fromkeys(record.value))
    if found.unusable == found.read:
        listed = ", ".join(map(repr, list(keys)[:12])) or "none"
        raise DataError(
            f"No record of {path} has a prompt; keys: {listed}.",
            where="--production",
            mend='Give "prompt" or "messages" in each, or the recipe (--recipe) whose columns it has.',
        )
    return found


def _take(found: Production, value: Mapping[str, Any], columns: list[dict[str, str]], key: str) -> bool:
    named = next((one for one in columns if one["prompt"] in value), {})
    shape: Shape | None = next((shape for mark, shape in _SHAPES if mark in value), "columns" if named else None)
    if shape is None:
        return False
    try:
        content = convert(value, shape, named)
    except Misshapen:
        return False
    text = prompt_of([message.as_json() for message in content.messages])
    if not text.strip():
        return False
    found.prompts.offer(key, lambda: _prompt(text))
    for name, held in content.slices.items():
        found.slices.add(PRODUCTION, name, held)
    return True


def _prompt(text: str) -> Prompt:
    clean = redact(text).text
    return Prompt(clean, f"says {normalise(clean)}")
