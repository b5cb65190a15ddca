"""[prepare.semantic]: duplicates in other words, found by an embedding model that the recipe names."""

from typing import Literal, Self

from pydantic import Field, model_validator

from budwood.recipe.section import Section


class SemanticSection(Section):
    model: str = Field(
        default="",
        description="what embeds texts: a local Hugging Face folder, org/name@revision on the hub, or seedling; empty: off",
    )
    threshold: float = Field(default=0.95, gt=0, le=1, description="cosine from which on two texts say the same")
    on: Literal["prompt", "row"] = Field(
        default="prompt",
        description="what is compared: prompts, where only rows with the same answer repeat each other, or prompt and answer",
    )
    action: Literal["drop", "flag", "group"] = Field(
        default="drop",
        description="a row that repeats an earlier one: reject it, flag it, or only keep both in one split",
    )
    pooling: Literal["mean", "first", "last"] = Field(
        default="mean", description="which tokens' states make the vector: the mean of all, the first (CLS), or the last"
    )

    @model_validator(mode="after")
    def _nothing_is_set_for_nothing(self) -> Self:
        # What is written out is not what differs: a recipe is also handed on with every default in it.
        differs = any(getattr(self, name) != field.default for name, field in type(self).model_fields.items())
        if differs and not self.model:
            raise ValueError("semantic: without a model nothing is compared: name one, or remove the other keys")
        return self
