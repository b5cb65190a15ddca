"""Boilerplate of assistants in answers: declining without a reason of the matter, and speaking of oneself as a model.

    boilerplate("I'm sorry, but I can't assist with that.")     # 'refusal'
    boilerplate("As an AI language model, I think …")           # 'disclaimer'
    boilerplate("I cannot refund orders after 30 days.")        # ''

A refusal is looked for where answers begin, a disclaimer everywhere. A business saying no ("we cannot refund …") is none:
declining counts where it is the assistant's own ("I") and the thing declined is the request itself, or assistants' usual verbs
follow an apology. Who asks a model what it is gets an answer, not a disclaimer. English in breadth; some twenty other languages
in their usual phrases.
"""

from typing import Literal

from budwood.text.plain import plain
from budwood.text.wording.phrases import phrases

HEAD = 600
"""Characters of an answer in which a refusal stands."""

Boilerplate = Literal["refusal", "disclaimer", ""]


def boilerplate(answer: str, prompt: str = "") -> Boilerplate:
    """Say what boilerplate an answer holds: the graver one, a refusal, where it holds both."""
    known = phrases("refusals")
    if not known["cues"].search(answer.casefold().replace("’", "'")):
        return ""
    spoken = plain(answer).strip("\"' >-")
    if known["refusal"].search(spoken[:HEAD]):
        return "refusal"
    if known["disclaimer"].search(spoken) and not known["asked_of_itself"].search(plain(prompt)):
        return "disclaimer"
    return ""
