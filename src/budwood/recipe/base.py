"""[base]: the frozen model under the adapter."""

from pydantic import Field

from budwood.recipe.section import Section


class BaseSection(Section):
    id: str = Field(
        default="seedling",
        min_length=1,
        description="seedling (bundled), a local Hugging Face folder, or org/name@revision on the hub",
    )
