"""Text → findings, and text → text without them.

Most texts hold none, so most of the work here is to see that quickly: bytes are counted before any pattern is tried.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from budwood.text.pii import secrets
from budwood.text.pii.contacts import EMAIL, IP, PHONE, ip_length, phone_length
from budwood.text.pii.kinds import KINDS, Finding, PersonalData, Redacted
from budwood.text.pii.national_ids import national_ids
from budwood.text.pii.payment import CARD, IBAN, card_length, iban_length

Span = tuple[int, int]
_NOT_DIGITS = bytes(byte for byte in range(256) if not 48 <= byte <= 57)
_OTHER_DIGITS = re.compile("[\u0660-\u0669\u06f0-\u06f9\u0966-\u096f\uff10-\uff19]")
_WITH_LETTERS = re.compile(r"[A-Z]{6} ?\w\w ?[A-Z]")
FEWEST: Mapping[PersonalData, int] = {"IBAN": 10, "NATIONAL_ID": 5, "CARD": 13, "IP": 4, "PHONE": 8}
"""Digits without which a text holds none of the kind. An IPv6 address may have fewer, and is known by its colons."""


def find(text: str, *, kinds: Sequence[PersonalData] = KINDS) -> list[Finding]:
    """List what was found, by position, without overlaps."""
    if not may_hold(text):
        return []
    digits = _digits(text)
    taken: list[Finding] = []
    for kind in KINDS:
        if kind not in kinds or (digits < FEWEST.get(kind, 0) and not (kind == "IP" and text.count(":") >= 2)):
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
    """Say whether a text is worth a closer look; no is certain. About 3 µs for 100 words, a tenth of what a look costs."""
    if "@" in text or _digits(text) >= 4 or text.count(":") >= 2:
        return True
    return _hints_at_secrets(text)


def _digits(text: str) -> int:
    count = len(text.encode("utf-8", "surrogatepass").translate(None, _NOT_DIGITS))
    return count if text.isascii() else count + len(_OTHER_DIGITS.findall(text))


def _hints_at_secrets(text: str) -> bool:
    lower = text.lower()
    return any(hint in lower for hint in secrets.HINTS) or any(name in lower for name in secrets.NAMES)


# --- one search a kind: where things stand, in the text's order ---


def _secrets(text: str) -> Iterator[Span]:
    if not _hints_at_secrets(text):
        return
    for match in secrets.MARKED.finditer(text):
        yield match.span()
    for search in (secrets.named, secrets.in_address):
        position = 0
        while span := search(text, position):
            yield span
            position = span[1]


def _emails(text: str) -> Iterator[Span]:
    if "@" in text:
        for match in EMAIL.finditer(text):
            yield match.span()


def _ips(text: str) -> Iterator[Span]:
    if text.count(".") >= 3 or text.count(":") >= 2:
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
