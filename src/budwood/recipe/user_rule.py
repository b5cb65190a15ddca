"""[[prepare.user]]: cleaning rules of the recipe's own, as a pattern or as a Python function beside it."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from budwood.recipe.section import Section

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_FUNCTION = re.compile(r"(?P<file>[^:\0]{1,400}\.py):(?P<name>[A-Za-z_]\w{0,99})")


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("use 1 to 40 lower-case letters, digits or _, a letter first")
    return name


class UserRuleSection(Section):
    name: Annotated[str, AfterValidator(_check_name)] = Field(description="what reports call it")
    pattern: str = Field(default="", description="regular expression without look-around, looked for in each text")
    function: str = Field(default="", description='"file.py:name": a function of a row; see docs/cleaning-rules.md')
    action: Literal["drop", "flag", "change"] = Field(default="drop", description="what happens where the pattern is found")
    replacement: str = Field(default="", description="change: what stands in the place of each match, as it is written")
    where: Literal["anywhere", "prompts", "answers"] = Field(
        default="anywhere", description="texts that the pattern is looked for in"
    )

    @model_validator(mode="after")
    def _has_one_of_pattern_and_function(self) -> Self:
        if bool(self.pattern) == bool(self.function):
            raise ValueError(f"the rule {self.name!r} needs either a pattern or a function")
        if self.function and not _FUNCTION.fullmatch(self.function):
            raise ValueError(f'function = {self.function!r}: write the file and the name in it, e.g. "rules.py:check"')
        set_here = self.model_fields_set
        if self.function and set_here & {"action", "replacement", "where"}:
            raise ValueError(
                f"the rule {self.name!r}: action, replacement and where go with a pattern; a function decides itself"
            )
        if self.replacement and self.action != "change":
            raise ValueError(f'the rule {self.name!r}: a replacement goes with action = "change"')
        return self

    @property
    def file(self) -> str:
        """The function's file; empty for a pattern."""
        return self.function.rpartition(":")[0]
