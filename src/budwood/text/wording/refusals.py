"""Boilerplate of assistants in answers: declining without a reason of the matter, and speaking of oneself as a model.

    boilerplate("I'm sorry, but I can't assist with that.")     # Boilerplate('refusal', certain=True)
    boilerplate("As an AI language model, I think …")           # Boilerplate('disclaimer', certain=True)
    boilerplate("We can't help you with that.")                 # Boilerplate('refusal', certain=False): a business may say so
    boilerplate("I cannot refund orders after 30 days.")        # None

A refusal is looked for where answers begin, a disclaimer everywhere. A business saying no ("we cannot refund …") is none:
declining counts where it is the assistant's own ("I") and the thing declined is the request itself, or assistants' usual verbs
follow an apology. Who asks a model what it is gets an answer, not a disclaimer. English in breadth, by phrases and by frames of
roles (`refusal_roles.toml`); some twenty other languages in their usual phrases.
"""

from typing import Literal, NamedTuple

from budwood.text.plain import plain
from budwood.text.wording.phrases import phrases
from budwood.text.wording.roles import grammar, without_code

HEAD = 600
"""Characters of an answer in which a refusal stands."""


class Boilerplate(NamedTuple):
    """Which kind it is, and whether it can hardly be meant otherwise."""

    kind: Literal["refusal", "disclaimer"]
    certain: bool = True


def boilerplate(answer: str, prompt: str = "") -> Boilerplate | None:
    """Say what boilerplate an answer holds: the graver one, a refusal, where it holds both; None for none."""
    known = phrases("refusals")
    folded = answer.casefold().replace("’", "'")
    in_phrases = known["cues"].search(folded)
    in_roles = grammar("refusal_roles").may_match(folded[:HEAD])
    if not in_phrases and not in_roles:
        return None
    spoken = plain(without_code(answer)).strip("\"' >-")
    if in_phrases and known["refusal"].search(spoken[:HEAD]):
        return Boilerplate("refusal")
    about_itself = known["asked_of_itself"].search(plain(prompt))
    if in_phrases and not about_itself and known["disclaimer"].search(spoken):
        return Boilerplate("disclaimer")
    return _in_roles(spoken[:HEAD], about_itself=about_itself) if in_roles else None


def _in_roles(spoken: str, *, about_itself: bool) -> Boilerplate | None:
    known = grammar("refusal_roles")
    signs = known.roles_of(spoken)
    if known.matches("refusal", signs):
        return Boilerplate("refusal")
    if about_itself:
        return None
    if known.matches("disclaimer", signs):
        return Boilerplate("disclaimer")
    return Boilerplate("refusal", certain=False) if known.matches("perhaps_refusal", signs) else None
