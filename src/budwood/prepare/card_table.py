"""Tables of a Markdown page."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(map(plain, row)) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def plain(value: object) -> str:
    """Keep what a recipe or an answer says from becoming layout of the card."""
    return " ".join(str(value).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())
