"""What is looked for, and what a finding is."""

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

PersonalData = Literal["SECRET", "EMAIL", "IBAN", "NATIONAL_ID", "CARD", "IP", "PHONE"]
KINDS: tuple[PersonalData, ...] = get_args(PersonalData)
"""In order of precedence: where two overlap, the earlier one is meant."""


class Finding(NamedTuple):
    kind: PersonalData
    start: int
    end: int


class Redacted(NamedTuple):
    text: str
    counts: Mapping[PersonalData, int]
