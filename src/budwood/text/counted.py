"""A count and its noun: 1 row, 2,300 rows."""


def counted(count: int, one: str, many: str = "") -> str:
    """Say how many of something there are; `many` where the plural is not made by an s."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
