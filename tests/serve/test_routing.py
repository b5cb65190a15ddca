"""Whose request goes to the release on trial: a fixed place each, so that nobody changes sides as the share grows."""

from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from budwood.serve.routing import Route, in_share, place


def route(share: float) -> Route:
    return Route("support", "production", "canary", cast(Any, None), share)


@settings(deadline=None)
@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_who_is_in_at_a_share_is_in_at_every_larger_one(key: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert in_share(route(large), key) or not in_share(route(small), key)


@settings(deadline=None)
@given(st.text())
def test_a_whole_share_takes_everybody_and_none_nobody(key: str) -> None:
    assert in_share(route(1.0), key)
    assert not in_share(route(0.0), key)
    assert 0 <= place("support", "production", key) < 1


def test_the_share_of_senders_is_the_share_that_was_asked_for() -> None:
    inside = sum(in_share(route(0.1), f"user {number}") for number in range(20_000))
    assert abs(inside - 2_000) < 5 * (20_000 * 0.1 * 0.9) ** 0.5


def test_places_differ_between_names_and_aliases() -> None:
    """Else the same senders would be tried upon everywhere, and "a" of "bc" would be "ab" of "c"."""
    places = {place(*words) for words in (("a", "bc", "k"), ("ab", "c", "k"), ("a", "b", "ck"), ("abc", "", "k"))}
    assert len(places) == 4
