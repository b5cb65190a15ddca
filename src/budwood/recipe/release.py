"""[release]: the deploy unit."""

from typing import Annotated

from pydantic import AfterValidator, Field

from budwood.recipe.names import check_alias
from budwood.recipe.section import Names, Section


class ReleaseSection(Section):
    alias: Annotated[str, AfterValidator(check_alias)] = Field(
        default="production", description="alias that `budwood run` promotes to on PROMOTE"
    )
    probes: int = Field(default=4, ge=1, le=64, description="golden probes to keep")
    probe_tokens: int = Field(default=12, ge=1, le=256, description="tokens of each probe's answer")
    approvals: int = Field(
        default=0, ge=0, le=16, description="people who must approve before that alias moves; never lowered by a recipe"
    )
    approve_own: bool = Field(default=False, description="whether the maker of a release, or the mover, counts as one of them")
    notes: str = Field(default="", description="for people who will read the history")
    sign_key: str = Field(default="", description="PEM private key that signs each release; empty: not signed")
    trusted_keys: Names = Field(
        default=(), description="PEM public keys: only releases that one of them signed go live; empty: any"
    )
