"""Numbers by which states know people: social security, tax and identity numbers with their check digits.

A form that its check alone makes certain enough is taken as it stands; one that an order number could pass (nine or eleven
bare digits) needs a word near it that names it. Not every country is here: see `FORMS`.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from budwood.text.pii import checks
from budwood.text.pii.payment import END, START

NEAR = 60
"""Characters before and after a number in which its name may stand."""


_DIGIT = re.compile(r"\d")


class Form(NamedTuple):
    """How a country writes a number.

    Args:
        country: ISO 3166 code, for readers and tests.
        pattern: how it is written.
        check: of its bare signs, upper case.
        words: that must stand near it; None where form and check suffice.
        in_digits: whether there is a digit in every number.
    """

    country: str
    pattern: re.Pattern[str]
    check: checks.Check
    words: re.Pattern[str] | None
    in_digits: bool


def _form(country: str, pattern: str, check: checks.Check, words: str = "") -> Form:
    near = re.compile(rf"(?i)\b(?:{words})\b") if words else None
    return Form(country, re.compile(START + pattern + END), check, near, r"\d" in pattern)


_SSN = r"ssn|social security|soc\.? sec"
_NINO = r"national insurance|nino|ni (?:number|no|nr)|nat\.? ins"
_TAX_DE = r"steuer-?id\w*|steuer(?:liche)? ?identifikationsnummer|steuernummer|idnr|tax id\w*|tin"

FORMS: tuple[Form, ...] = (
    _form("US", r"\d{3}-\d{2}-\d{4}", checks.american_ssn),
    _form("US", r"\d{3} ?\d{2} ?\d{4}", checks.american_ssn, _SSN),
    _form("GB", r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] \d\d ?\d\d ?\d\d ?[A-D]", checks.british_nino),
    _form("GB", r"[A-Za-z]{2}\d{6}[A-Da-d]", checks.british_nino, _NINO),
    _form("DE", r"\d{2} ?\d{3} ?\d{3} ?\d{3}", checks.german_tax_id, _TAX_DE),
    _form("FR", r"[12] ?\d\d ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d", checks.french_insee),
    _form("ES", r"\d{8}[ -]?[A-HJ-NP-TV-Z]", checks.spanish_id),
    _form("ES", r"[XYZ][ -]?\d{7}[ -]?[A-HJ-NP-TV-Z]", checks.spanish_id),
    _form("IT", r"[A-Z]{6} ?[0-9LMNP-V]{2} ?[A-EHLMPRST] ?[0-9LMNP-V]{2} ?[A-Z] ?[0-9LMNP-V]{3} ?[A-Z]", checks.italian_code),
    _form("NL", r"\d{4}[ .]?\d{2}[ .]?\d{3}|\d{3}[ .]\d{3}[ .]\d{3}", checks.dutch_bsn, r"bsn|burger ?service ?nummer|sofi\w*"),
    _form("PL", r"\d{11}", checks.polish_pesel, r"pesel\w*"),
    _form("BR", r"\d{3}\.\d{3}\.\d{3}-\d{2}", checks.brazilian_cpf),
    _form("BR", r"\d{11}", checks.brazilian_cpf, r"cpf"),
    _form("IN", r"[2-9]\d{3}[ -]?\d{4}[ -]?\d{4}", checks.verhoeff, r"aadh?aa?r\w*|uidai|uid"),
    _form("BE", r"\d\d\.\d\d\.\d\d-\d{3}[.-]\d\d", checks.belgian_number),
    _form("CH", r"756[. ]?\d{4}[. ]?\d{4}[. ]?\d\d", checks.swiss_ahv),
    _form("SE", r"\d{6}[-+]\d{4}", checks.swedish_number),
    _form("FI", r"\d{6}[-+A]\d{3}[0-9A-FHJ-NPR-Y]", checks.finnish_code),
    _form("CN", r"[1-8]\d{5}(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])\d{3}[0-9Xx]", checks.chinese_id),
    _form("TR", r"\d{11}", checks.turkish_id, r"t\.?c\.?|kimlik|tckn"),
    _form("CA", r"\d{3}[ -]?\d{3}[ -]?\d{3}", checks.luhn, r"sin|social insurance"),
    _form("AU", r"\d{3} ?\d{3} ?\d{3}", checks.australian_tfn, r"tfn|tax file"),
    _form("PT", r"\d{9}|\d{3} \d{3} \d{3}", checks.portuguese_nif, r"nif|contribuinte"),
    _form("DK", r"\d{6}-?\d{4}", checks.always, r"cpr\w*|personnummer"),
    _form("ZA", r"\d{13}", checks.luhn, r"south african id|id (?:number|no)|sa id"),
    _form(
        "any",
        r"(?=[A-Z0-9]{0,8}\d{4})[A-Z0-9]{6,10}",
        checks.always,
        r"passport|reisepass\w*|passeport|pasaporte|passaporto|paspoort",
    ),
    _form(
        "any",
        r"\d{3}[ .-]?\d{2,3}[ .-]?\d{3,4}",
        checks.always,
        r"social security (?:number|no\.?|nr)|tax (?:id|identification|payer)(?: (?:number|no\.?))?",
    ),
)


def national_ids(text: str) -> Iterator[tuple[int, int]]:
    """Yield where such numbers stand; they may overlap."""
    has_digits = _DIGIT.search(text) is not None
    for form in FORMS:
        if form.in_digits and not has_digits:
            continue
        if form.words is not None and not form.words.search(text):
            continue
        position = 0
        while match := form.pattern.search(text, position):
            start, end = match.span()
            position = start + 1
            signs = re.sub(r"[ .-]", "", match[0]) if form.country != "FI" else match[0]
            if form.check(signs.upper().replace("+", "") if form.country != "FI" else signs) and _is_named(
                form, text, start, end
            ):
                yield start, end
                position = end


def _is_named(form: Form, text: str, start: int, end: int) -> bool:
    if form.words is None:
        return True
    return bool(form.words.search(text[max(0, start - NEAR) : start]) or form.words.search(text[end : end + NEAR // 2]))
