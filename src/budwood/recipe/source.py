"""[[source]]: one file of raw rows, and what is declared about it."""

import codecs
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from budwood.recipe.section import Section

RowFormat = Literal["auto", "messages", "prompt", "alpaca", "sharegpt", "columns"]


def _check_encoding(name: str) -> str:
    try:
        # Some codecs turn bytes into bytes; those are no encodings.
        "".encode(name or "utf-8")
    except LookupError:
        raise ValueError(f"There is no encoding {name!r}; e.g. utf-8, utf-16, cp1252, cp1250, shift_jis") from None
    return codecs.lookup(name).name if name else ""


Encoding = Annotated[str, AfterValidator(_check_encoding)]


class SourceSection(Section):
    path: str = Field(min_length=1, description="JSONL, JSON, CSV or Parquet, plain, .gz or .zst; relative to the recipe")
    format: RowFormat = Field(default="auto", description="how a row is laid out; auto looks at the first rows")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="prompt, completion and, if wanted, system: the columns that hold them; the rest become slices",
    )
    encoding: Encoding = Field(
        default="", description='how its text is encoded, e.g. "cp1250"; empty: UTF-8, or what can be told for certain'
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
