"""Text → findings, and text → text without them.

Most texts hold none, so most of the work here is to see that quickly: bytes are counted before any pattern is tried.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache

from budwood.text.linear import LinearPattern, gate
from budwood.text.pii import secrets
from budwood.text.pii.contacts import EMAIL, IP, PHONE, ip_length, phone_length
from budwood.text.pii.kinds import KINDS, Finding, PersonalData, Redacted
from budwood.text.pii.national_ids import FORMS, national_ids
from budwood.text.pii.payment import CARD, IBAN, card_length, iban_length

Span = tuple[int, int]


def find(text: str, *, kinds: Sequence[PersonalData] = KINDS) -> list[Finding]:
    """List what was found, by position, without overlaps."""
    if not may_hold(text):
        return []
    taken: list[Finding] = []
    for kind in KINDS:
        if kind not in kinds or not _gates()[kind].search(text):
            continue
        for start, end in _SEARCH[kind](text):
            if all(end <= other.start or start >= other.end for other in taken):
                taken.append(Finding(kind, start, end))
    return sorted(taken, key=lambda finding: finding.start)


def redact(text: str, *, kinds: Sequence[PersonalData] = KINDS) -> Redacted:
    """Replace each finding by its kind in brackets, e.g. `[EMAIL]`."""
    findings = find(text, kinds=kinds)
    if not findings:
        return Redacted(text, {})
    pieces, position = [], 0
    for finding in findings:
        pieces += [text[position : finding.start], f"[{finding.kind}]"]
        position = finding.end
    pieces.append(text[position:])
    return Redacted("".join(pieces), Counter(finding.kind for finding in findings))


def may_hold(text: str) -> bool:
    """Say whether a text is worth a closer look; no is certain, and costs a microsecond for 100 words."""
    return _any_gate().search(text)


_PATTERNS: Mapping[PersonalData, tuple[re.Pattern[str], ...]] = {
    "SECRET": (secrets.MARKED, secrets.NAMED, secrets.IN_ADDRESS),
    "EMAIL": (EMAIL,),
    "IBAN": (IBAN,),
    "NATIONAL_ID": tuple(form.pattern for form in FORMS if form.words is None)
    + tuple(form.words for form in FORMS if form.words),
    "CARD": (CARD,),
    "IP": (IP,),
    "PHONE": (PHONE,),
}


@cache
def _gates() -> Mapping[PersonalData, LinearPattern]:
    return {kind: LinearPattern(_gate_of(kind)) for kind in KINDS}


@cache
def _any_gate() -> LinearPattern:
    return LinearPattern("|".join(map(_gate_of, KINDS)))


def _gate_of(kind: PersonalData) -> str:
    return "|".join(gate(_source(pattern)) for pattern in _PATTERNS[kind])


def _source(pattern: re.Pattern[str]) -> str:
    return (
        f"(?i){pattern.pattern}" if pattern.flags & re.IGNORECASE and not pattern.pattern.startswith("(?") else pattern.pattern
    )


# --- one search a kind: where things stand, in the text's order ---


def _secrets(text: str) -> Iterator[Span]:
    for match in secrets.MARKED.finditer(text):
        yield match.span()
    for search in (secrets.named, secrets.in_address):
        position = 0
        while span := search(text, position):
            yield span
            position = span[1]


def _emails(text: str) -> Iterator[Span]:
    for match in EMAIL.finditer(text):
        yield match.span()


def _ips(text: str) -> Iterator[Span]:
    yield from _checked(IP, text, lambda found, before: ip_length(found))


def _checked(pattern: re.Pattern[str], text: str, length_of: Callable[[str, str], int]) -> Iterator[Span]:
    position = 0
    while match := pattern.search(text, position):
        start, end = match.span()
        length = length_of(text[start:end], text[:start])
        if length:
            yield start, start + length
        # A failed check may have begun too early ("2 of 4111 1111 ..."), so the search goes on inside the match.
        position = start + (length or 1)


_SEARCH: Mapping[PersonalData, Callable[[str], Iterator[Span]]] = {
    "SECRET": _secrets,
    "EMAIL": _emails,
    "IBAN": lambda text: _checked(IBAN, text, lambda found, before: iban_length(found)),
    "NATIONAL_ID": national_ids,
    "CARD": lambda text: _checked(CARD, text, lambda found, before: card_length(found)),
    "IP": _ips,
    "PHONE": lambda text: _checked(PHONE, text, phone_length),
}
