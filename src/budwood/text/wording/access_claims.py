"""Answers that claim to have opened what a model was never given: links, attachments, pictures, recordings, the web.

    claim("I've gone through the PDF you attached, and …", "Sum up https://…")    # Claim('to have opened …', True)
    claim("I contacted the courier.", "…")                                        # Claim('to have acted …', False)
    claim("I can't open links.", "…")                                             # None

A text that stands in the prompt may be spoken of ("the article you provided"), so a word such as document or article counts
only where the prompt is too short to hold one, or speaks of a link or an upload. What cannot stand in a prompt (a link
followed, a screenshot seen, a site visited, a search made) always counts. Letters and scenes that the answer composes are let
be, and so is what is denied, conditional or still to come. English in breadth; a dozen other languages in their usual phrases.
"""

import re
from typing import NamedTuple

from budwood.text.plain import plain
from budwood.text.wording.phrases import phrases
from budwood.text.wording.roles import grammar, without_code

EMPTY_HANDED = 160
"""Characters below which a prompt can hardly hold the document that an answer speaks of."""
READ = 1500
"""Characters of an answer in which a claim is looked for."""
HEAD = 600
"""Characters in which an answer says what it goes by; later "the page" is mostly its own subject."""

_NOT_YET = re.compile(r"\b(if|once|whenever|until|unless|suppose|imagine|pretend|as though|as soon as|wish) (?=i\b|we\b)")
_CONDITION = re.compile(r"\b(if|once|whenever|until|unless|suppose|imagine|pretend|as soon as|wish) (?:i|we)\b")
_HOLDS_MORE = re.compile(r"\n|`|.{280}|[\"“].{60}", re.DOTALL)
"""What a longer prompt has that holds a text beside its question."""
_LETTER = re.compile(
    r"\W*(?:subject ?:|dear [\w\[]|to whom|(?:hi|hello|hey) (?:\[|team\b|all\b|everyone\b|[A-Z][a-z]+,\s*\n)"
    r"|betreff ?:|objet ?:|asunto ?:|sehr geehrte|madame|estimad)",
    re.IGNORECASE,
)


class Claim(NamedTuple):
    """What is claimed, in our words, and whether the words can hardly be meant otherwise."""

    kind: str
    certain: bool = True


def claim(answer: str, prompt: str = "") -> Claim | None:
    """Say what an answer claims to have opened or looked into; None for an answer that claims nothing of the kind."""
    folded = answer[:READ].casefold().replace("’", "'")
    kind = _in_phrases(answer[:READ], folded, prompt)
    if kind:
        return Claim(kind)
    return _in_roles(answer[:HEAD], prompt) if grammar("access_roles").may_match(folded[:HEAD]) else None


def _in_phrases(head: str, folded: str, prompt: str) -> str:
    known = phrases("access_claims")
    if not known["cues"].search(folded):
        return ""
    if known["foreign"].search(folded) or (len(prompt) < EMPTY_HANDED and known["foreign_shown"].search(folded)):
        return "to have opened, seen or looked up something"
    if not known["voices"].search(folded):
        return ""
    spoken = plain(head)
    asked = plain(prompt[:4000])
    strict = known["strictly_of_files"].search(asked)
    if _LETTER.match(head) or (not strict and known["composing"].search(asked)):
        return ""
    spoken = _NOT_YET.sub(r"\1 _", spoken)
    return _english(spoken, len(prompt), strict=strict, asked_of_files=known["asked_of_files"].search(asked))


def _in_roles(head: str, prompt: str) -> Claim | None:
    known, said = grammar("access_roles"), phrases("access_claims")
    signs = known.roles_of(_CONDITION.sub(r"\1 one", without_code(head).lower()))
    sure = known.matches("claims", signs)
    of_text = not sure and known.matches("claims_of_text", signs)
    if not (sure or of_text or known.matches("perhaps", signs)):
        return None
    asked = plain(prompt[:4000])
    if said["asked_to_write"].search(asked) and not said["strictly_of_files"].search(asked):
        return None
    if sure or (of_text and (len(prompt) < EMPTY_HANDED or not _HOLDS_MORE.search(prompt))):
        return Claim("to have looked into, opened or tried something")
    return None if of_text else Claim("to have acted or asked somewhere", certain=False)


def _english(spoken: str, prompt_length: int, *, strict: bool, asked_of_files: bool) -> str:
    known = phrases("access_claims")
    head = spoken[:HEAD]
    if known["looked_up"].search(spoken):
        return "to have seen or looked up something"
    bound = asked_of_files and (strict or prompt_length < EMPTY_HANDED)
    handed_nothing = strict or prompt_length < EMPTY_HANDED
    opened = known["opened_hard"].search(spoken) or (handed_nothing and known["opened_tied"].search(spoken))
    opened = opened or (handed_nothing and known["opened_shown"].search(spoken))
    if opened or (bound and known["opened_bare"].search(spoken)):
        return "to have opened a link, attachment or file"
    if known["spoken_hard_tied"].search(head):
        return "to know what a link, attachment or file shows"
    if handed_nothing and (known["spoken_soft_tied"].search(head) or known["goes_by_shown"].search(head)):
        return "to know what a file or page shows"
    if bound and any(known[name].search(head) for name in ("spoken_hard_bare", "spoken_soft_bare", "pictured_bare")):
        return "to know what a link, attachment or file shows"
    return ""
