"""[[prepare.benchmarks]]: one file that models are judged by elsewhere, and that must therefore not be trained on."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from budwood.recipe.section import Section
from budwood.recipe.source import Encoding, RowFormat


class BenchmarkSection(Section):
    path: str = Field(min_length=1, description="JSONL, JSON, CSV or Parquet, plain, .gz or .zst; relative to the recipe")
    name: str = Field(default="", description="what reports call it; empty: its path")
    format: RowFormat = Field(default="auto", description="how a row is laid out; auto looks at the first rows")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="prompt and, where there is one, completion: the columns that hold them; empty: known names are looked for",
    )
    encoding: Encoding = Field(
        default="", description='how its text is encoded, e.g. "cp1250"; empty: UTF-8, or what can be told for certain'
    )
    separator: str = Field(
        default="", description="of a text file with one pair a line: what stands between prompt and completion"
    )


def _from_path(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


Benchmark = Annotated[BenchmarkSection, BeforeValidator(_from_path)]
"""A table, or the path alone."""
