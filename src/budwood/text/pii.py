"""Personal data and secrets in text: find them, or put a placeholder in their place.

Patterns with a check behind them wherever one exists (Luhn for cards, mod-97 for IBANs, address parsing for IPs), because a
wrong redaction damages a training row as much as a missed one endangers a person. Names and street addresses are not
looked for: no pattern finds them reliably, and pretending would be worse than saying so.

    redact("Call +44 20 7946 0958 or write to ann@example.org").text   # 'Call [PHONE] or write to [EMAIL]'
    [f.kind for f in find("card 4111 1111 1111 1111")]                 # ['CARD']

Redacting twice changes nothing more. Findings carry positions, never the text: callers must not store what was found,
nor a digest of it.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple, get_args

PersonalData = Literal["SECRET", "EMAIL", "IBAN", "CARD", "IP", "PHONE"]
KINDS: tuple[PersonalData, ...] = get_args(PersonalData)
"""In order of precedence: where two overlap, the earlier one is meant."""


class Finding(NamedTuple):
    kind: PersonalData
    start: int
    end: int


class Redacted(NamedTuple):
    text: str
    counts: Mapping[PersonalData, int]


def find(text: str) -> list[Finding]:
    """List what was found, by position, without overlaps."""
    taken: list[Finding] = []
    for kind in KINDS:
        if not _HINT[kind](text):
            continue
        for finding in _search(kind, text):
            if all(finding.end <= other.start or finding.start >= other.end for other in taken):
                taken.append(finding)
    return sorted(taken, key=lambda finding: finding.start)


def redact(text: str) -> Redacted:
    """Replace each finding by its kind in brackets, e.g. `[EMAIL]`."""
    findings = find(text)
    if not findings:
        return Redacted(text, {})
    pieces, position = [], 0
    for finding in findings:
        pieces += [text[position : finding.start], f"[{finding.kind}]"]
        position = finding.end
    pieces.append(text[position:])
    return Redacted("".join(pieces), Counter(finding.kind for finding in findings))


def passes_luhn(digits: str) -> bool:
    """Check the last digit of a card number (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def passes_mod97(iban: str) -> bool:
    """Check an IBAN written without spaces (ISO 13616): letters count from A = 10, the whole leaves 1 modulo 97."""
    turned = iban[4:] + iban[:4]
    return int("".join(str(int(sign, 36)) for sign in turned)) % 97 == 1


def _search(kind: PersonalData, text: str) -> Iterator[Finding]:
    position = 0
    while match := _PATTERN[kind].search(text, position):
        start, end = match.span()
        length = _CHECK[kind](text[start:end])
        if length:
            yield Finding(kind, start, start + length)
        # A failed check may have begun too early ("2 of 4111 1111 ..."), so the search goes on inside the match.
        position = start + (length or 1)


# --- checks: length of the valid part of a match, from its start; 0 = none ---


def _whole(found: str) -> int:
    return len(found)


def _card(found: str) -> int:
    lengths = _CARD_LENGTHS.get(found[0], ())
    places = [place for place, sign in enumerate(found) if sign.isdigit()]
    # Longest first; a security code or a year may stand behind the number, parted from it by a space.
    for length in sorted(lengths, reverse=True):
        if length > len(places):
            continue
        end = places[length - 1] + 1
        digits = "".join(found[place] for place in places[:length])
        if (end == len(found) or not found[end].isdigit()) and len(set(digits)) > 1 and passes_luhn(digits):
            return end
    return 0


def _iban(found: str) -> int:
    # Words may follow an IBAN ("DE89 3704 ... 00 TO my account"): the longest prefix that passes is the number.
    ends = [i for i in range(15, len(found) + 1) if i == len(found) or not found[i].isalnum() or found[i - 1] != " "]
    for end in reversed(ends):
        compact = found[:end].replace(" ", "")
        if 15 <= len(compact) <= 34 and found[end - 1] != " " and passes_mod97(compact):
            return end
    return 0


def _ip(found: str) -> int:
    try:
        address = ipaddress.ip_address(found)
    except ValueError:
        return 0
    return 0 if address.is_loopback or address.is_unspecified else len(found)


def _phone(found: str) -> int:
    digits = re.sub(r"\D", "", found)
    return len(found) if 8 <= len(digits) <= 15 else 0


_CARD_LENGTHS: Mapping[str, tuple[int, ...]] = {
    "2": (16,),  # Mastercard's newer range
    "3": (14, 15, 16),  # Diners, American Express, JCB
    "4": (13, 16, 19),  # Visa
    "5": (16,),  # Mastercard
    "6": (16, 19),  # Discover, Maestro, UnionPay
}

# Nothing is taken out of the middle of a longer code: order, part and serial numbers join letters and digits by hyphens.
_START = r"(?<![\w/])(?<!\w[-.])"
_END = r"(?!-?\w)(?!\.\d)"

_PATTERN: Mapping[PersonalData, re.Pattern[str]] = {
    "SECRET": re.compile(
        r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[\s\S]{1,8000}?-----END [A-Z ]{0,30}PRIVATE KEY-----"
        r"|\bsk-(?:[A-Za-z]{1,12}-)?[A-Za-z0-9_-]{20,200}"
        r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
        r"|\bgh[pousr]_[A-Za-z0-9]{36,255}\b|\bgithub_pat_[A-Za-z0-9_]{22,255}\b"
        r"|\bglpat-[A-Za-z0-9_-]{20,64}|\bxox[abprs]-[A-Za-z0-9-]{10,250}|\bhf_[A-Za-z0-9]{30,64}\b"
        r"|\bAIza[0-9A-Za-z_-]{35}|\b[sr]k_(?:live|test)_[0-9A-Za-z]{16,250}\b"
        r"|\beyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{10,1000}"
    ),
    "EMAIL": re.compile(
        r"(?<![\w.+%-])[A-Za-z0-9_%+-]{1,64}(?:\.[A-Za-z0-9_%+-]{1,64}){0,8}"
        r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.){1,8}[A-Za-z]{2,24}(?![\w@])"
    ),
    "IBAN": re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b"),
    "CARD": re.compile(_START + r"\d(?:[ -]?\d){12,18}" + _END),
    "IP": re.compile(
        r"(?<![\w.:])(?<!version )(?<!Version )(?:\d{1,3}\.){3}\d{1,3}(?![\w:]|\.\d)"
        r"|(?<![\w.:])(?:[0-9A-Fa-f]{1,4}:){2,7}(?::?[0-9A-Fa-f]{1,4}){1,7}(?![\w:])"
    ),
    "PHONE": re.compile(
        r"(?<![\w+])\+\d{1,3}[ .-]?(?:\(0?\d{1,4}\)[ .-]?)?\d(?:[ ./-]?\d){5,12}" + _END  # +44 20 7946 0958
        + "|" + _START + r"\(\d{3}\) ?\d{3}[ .-]\d{4}" + _END  # (555) 123-4567
        + "|" + _START + r"(?:1[ .-])?\d{3}([ .-])\d{3}\1\d{4}" + _END  # 555-123-4567
        + "|" + _START + r"(?:\(0[1-9]\d{1,3}\)|0[1-9]\d{1,4}[ /-]) ?\d{2,4}(?:[ -]?\d{2,4}){1,3}" + _END  # 020 7946 0958
        + "|" + _START + r"0[1-9](?:[ .-]\d\d){4}" + _END  # 01 23 45 67 89
    ),
}  # fmt: skip

_CHECK: Mapping[PersonalData, Callable[[str], int]] = {
    "SECRET": _whole,
    "EMAIL": _whole,
    "IBAN": _iban,
    "CARD": _card,
    "IP": _ip,
    "PHONE": _phone,
}

# Cheap looks that spare most texts the patterns: half the time of preparing plain rows would go there otherwise.
_DIGITS = re.compile(r"\d{2}")
_PREFIX = re.compile(r"sk-|AKIA|ASIA|gh[pousr]_|github_pat_|glpat-|xox|hf_|AIza|k_live|k_test|eyJ|-----BEGIN")
_COLONS = re.compile(r"[0-9A-Fa-f]:[0-9A-Fa-f:]")
_HINT: Mapping[PersonalData, Callable[[str], bool]] = {
    "SECRET": lambda text: (
        re.search(r"sk-|AKIA|ASIA|gh[pousr]_|github_pat_|glpat-|xox|hf_|AIza|k_live|k_test|eyJ|-----BEGIN", text) is not None
    ),
    "EMAIL": lambda text: "@" in text,
    "IBAN": lambda text: _DIGITS.search(text) is not None,
    "CARD": lambda text: _DIGITS.search(text) is not None,
    "IP": lambda text: _COLONS.search(text) is not None or text.count(".") >= 3,
    "PHONE": lambda text: _DIGITS.search(text) is not None,
}
