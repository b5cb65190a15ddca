"""Personal data: what is found, what is left alone, and that redacting is final."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budwood.text.pii import find, redact
from budwood.text.pii.checks import luhn as passes_luhn
from budwood.text.pii.checks import mod97 as passes_mod97


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to ann.lee+shop@mail.example.co.uk.", "Write to [EMAIL]."),
        ("Call +44 20 7946 0958 today", "Call [PHONE] today"),
        ("Call +1 (415) 555-2671, or (555) 123-4567", "Call [PHONE], or [PHONE]"),
        ("Call 555-123-4567 or 0171 2345678 or 020 7946 0958.", "Call [PHONE] or [PHONE] or [PHONE]."),
        ("(020) 7946 0958, 0171/2345678, 01 23 45 67 89", "[PHONE], [PHONE], [PHONE]"),
        ("Card 4111 1111 1111 1111.Thanks", "Card [CARD].Thanks"),
        ("Cards 4111111111111111, 5500-0000-0000-0004 and 3782 822463 10005", "Cards [CARD], [CARD] and [CARD]"),
        ("4111111111111111 123 is number and code", "[CARD] 123 is number and code"),
        ("2 of 4111 1111 1111 1111", "2 of [CARD]"),
        ("To DE89 3704 0044 0532 0130 00 TO my account", "To [IBAN] TO my account"),
        ("GB82WEST12345698765432", "[IBAN]"),
        ("From 203.0.113.9 and 2001:db8::8a2e:370:7334", "From [IP] and [IP]"),
        ("key sk-proj-" + "a1B2" * 8 + " AKIA" + "A1B2" * 4, "key [SECRET] [SECRET]"),
        ("ghp_" + "a1B2c3" * 6, "[SECRET]"),
    ],
)
def test_personal_data_becomes_a_placeholder(text: str, expected: str) -> None:
    assert redact(text).text == expected


@pytest.mark.parametrize(
    "text",
    [
        "My order is A7-48213, part 77-A7-48213-2.",
        "Order 4111111111111112 (no card: its check digit is wrong)",
        "ISBN 978-3-16-148410-0, version 10.2.3, v1.2.3.4",
        "On 2024-05-12 at 10:30:45 it cost 1,299.00, 12-11-2024, 05-12-2024 10:30, 05/12/2024 and 05.12.2024 too",
        "00000000000000000, 1234567890, 3.14159265358979",
        "the loopback 127.0.0.1, a ratio of 16:9, DE00 0000 0000 0000 0000 00",
        "user@localhost and @mention",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert redact(text).text == text


def test_findings_say_where_and_what_but_hold_no_text() -> None:
    (finding,) = find("mail ann@example.org now")
    assert finding == ("EMAIL", 5, 20)


def test_counts_by_kind() -> None:
    assert dict(redact("a@example.org b@example.org +44 20 7946 0958").counts) == {"EMAIL": 2, "PHONE": 1}


def test_no_order_number_of_the_example_is_taken_for_something_else() -> None:
    draw = random.Random(5)
    for _ in range(2000):
        order = f"{draw.choice('ABCDEFGHJKLMNPQRSTUVWXYZ')}{draw.randint(1, 9)}-{draw.randint(10000, 99999)}"
        text = f"{order} Order number: {order}. It is order {order}, {draw.randint(1, 12)} days ago"
        assert redact(text).text == text


def test_luhn_against_the_sum_written_out() -> None:
    def reference(digits: str) -> bool:
        values = [int(digit) for digit in digits[::-1]]
        return (sum(values[::2]) + sum(int(s) for value in values[1::2] for s in str(2 * value))) % 10 == 0

    draw = random.Random(1)
    for _ in range(500):
        digits = "".join(draw.choices("0123456789", k=16))
        assert passes_luhn(digits) == reference(digits)


def test_mod97_knows_published_examples_and_no_changed_digit() -> None:
    for iban in ("DE89370400440532013000", "GB82WEST12345698765432", "FR1420041010050500013M02606"):
        assert passes_mod97(iban)
        assert not passes_mod97(iban[:-1] + ("1" if iban[-1] != "1" else "2"))


@given(st.text(alphabet="+0123456789 -.@()/aAE:x\n", max_size=60))
@settings(max_examples=300, deadline=None)
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = redact(text).text
    assert redact(once).text == once
