"""[[source]]: one file of raw rows, and what is declared about it."""

from typing import Literal

from pydantic import Field

from budwood.recipe.section import Section

RowFormat = Literal["auto", "messages", "prompt", "alpaca", "sharegpt", "columns"]


class SourceSection(Section):
    path: str = Field(min_length=1, description="JSONL, JSON, CSV or Parquet, plain, .gz or .zst; relative to the recipe")
    format: RowFormat = Field(default="auto", description="how a row is laid out; auto looks at the first rows")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="prompt, completion and, if wanted, system: the columns that hold them; the rest become slices",
    )
    separator: str = Field(
        default="", description="of a text file with one pair a line: what stands between prompt and completion"
    )
    split: Literal["auto", "train", "test"] = Field(
        default="auto", description="test: a published test file, kept whole; train: never a test row; auto: hashed"
    )
    weight: float = Field(default=1.0, gt=0, description="how often the sampler takes its rows, against other sources")
    origin: str = Field(default="", description="where the rows come from; goes into the data card")
    licence: str = Field(default="", description="licence as declared by the source; goes into the data card")
    licence_verified: str = Field(
        default="", description="who checked that licence, where and when; goes into the data card; empty: not verified"
    )
    cleaning: str = Field(default="", description="what was done to the rows before Budwood saw them")
    labelling: str = Field(default="", description="who or what wrote the answers, under which assumptions")
