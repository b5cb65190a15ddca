"""What every section has in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Names = Annotated[tuple[str, ...], Field(strict=False)]
"""A TOML array of strings."""


class Section(BaseModel):
    """A part of the recipe: frozen, no unknown keys, numbers finite, nothing coerced between kinds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
