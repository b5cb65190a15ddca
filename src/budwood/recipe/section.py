"""What every section has in common."""

import difflib
from collections.abc import Collection
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Names = Annotated[tuple[str, ...], Field(strict=False)]
"""A TOML array of strings."""


LARGEST_SEED = 2**63 - 1
"""Generators take 64 bits with a sign."""


def check_known(name: str, known: Collection[str], what: str) -> str:
    """Accept one of the known names; ValueError otherwise, with the nearest."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"The nearest is {near[0]!r}" if near else f"Known: {', '.join(known)}"
        raise ValueError(f"There is no {what} {name!r}. {hint}")
    return name


class Section(BaseModel):
    """A part of the recipe: frozen, no unknown keys, numbers finite, nothing coerced between kinds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
