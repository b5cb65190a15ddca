"""National ids: published examples are found, one changed digit is not, and bare digits need the word that names them."""

import pytest

from budwood.text.pii import checks, find, redact

EXAMPLES = [
    ("german_tax_id", "86095742719"),
    ("french_insee", "255081416802538"),
    ("spanish_id", "12345678Z"),
    ("spanish_id", "X1234567L"),
    ("italian_code", "RSSMRA85T10A562S"),
    ("dutch_bsn", "111222333"),
    ("polish_pesel", "44051401359"),
    ("brazilian_cpf", "52998224725"),
    ("verhoeff", "234123412346"),
    ("belgian_number", "85073003328"),
    ("swiss_ahv", "7569217076985"),
    ("swedish_number", "8112189876"),
    ("chinese_id", "11010519491231002X"),
    ("turkish_id", "10000000146"),
    ("australian_tfn", "123456782"),
    ("luhn", "046454286"),
]


@pytest.mark.parametrize(("check", "number"), EXAMPLES)
def test_each_check_knows_its_published_example_and_hardly_any_other(check: str, number: str) -> None:
    holds = getattr(checks, check)
    assert holds(number)
    last = [i for i, sign in enumerate(number) if sign.isdigit()][-1]
    others = [number[:last] + digit + number[last + 1 :] for digit in "0123456789" if digit != number[last]]
    # BSN, PESEL and the rest catch every single changed digit; the tax id's and SIN's last digit is the check itself.
    assert not any(map(holds, others))


def test_verhoeff_against_its_tables() -> None:
    """The multiplication table of the dihedral group and the permutation, written out as Verhoeff gives them."""
    d = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 4, 0, 6, 7, 8, 9, 5], [2, 3, 4, 0, 1, 7, 8, 9, 5, 6],
        [3, 4, 0, 1, 2, 8, 9, 5, 6, 7], [4, 0, 1, 2, 3, 9, 5, 6, 7, 8], [5, 9, 8, 7, 6, 0, 4, 3, 2, 1],
        [6, 5, 9, 8, 7, 1, 0, 4, 3, 2], [7, 6, 5, 9, 8, 2, 1, 0, 4, 3], [8, 7, 6, 5, 9, 3, 2, 1, 0, 4],
        [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
    ]  # fmt: skip
    p = [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]]
    for _ in range(6):
        p.append([p[1][digit] for digit in p[-1]])

    def reference(digits: str) -> bool:
        state = 0
        for place, digit in enumerate(reversed(digits)):
            state = d[state][p[place % 8][int(digit)]]
        return state == 0

    for number in range(0, 100_000, 7):
        assert checks.verhoeff(str(number)) == reference(str(number))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SSN 536-22-8910.", "SSN [NATIONAL_ID]."),
        ("my social security number is 536228910", "my social security number is [NATIONAL_ID]"),
        ("NINO AB123456C and AB 12 34 56 C", "NINO [NATIONAL_ID] and [NATIONAL_ID]"),
        ("codice fiscale RSSMRA85T10A562S", "codice fiscale [NATIONAL_ID]"),
        ("CPF 529.982.247-25", "CPF [NATIONAL_ID]"),
        ("Mein PESEL: 44051401359", "Mein PESEL: [NATIONAL_ID]"),
        ("henkilötunnus 131052-308T", "henkilötunnus [NATIONAL_ID]"),
    ],
)
def test_ids_are_redacted(text: str, expected: str) -> None:
    assert redact(text).text == expected


@pytest.mark.parametrize(
    "text",
    [
        "order 44051401359",
        "part 111222333",
        "AB123456C",
        "86095742719",
        "666-12-3456",
        "000-12-3456",
        "12345678A",
        "529.982.247-26",
        "using sin and tin",
    ],
)
def test_what_could_be_an_order_number_stays(text: str) -> None:
    assert redact(text).text == text


def test_only_the_kinds_asked_for_are_looked_for() -> None:
    text = "ann@example.org 536-22-8910"
    assert [finding.kind for finding in find(text, kinds=("EMAIL",))] == ["EMAIL"]
    assert [finding.kind for finding in find(text, kinds=("NATIONAL_ID",))] == ["NATIONAL_ID"]
    assert find(text, kinds=()) == []
