"""Which releases go when memory is wanted, and what holds one."""

from typing import Any

import pytest

from budwood.identity import Digest
from budwood.serve.directory import Decoding, Directory, Live, UnknownModelError


def live(number: int, *, size: int = 1) -> Live:
    nothing: Any = None
    digest = Digest(f"{number:x}" * 64)
    decoding = Decoding(0.0, 1, ())
    return Live(
        "a", number, digest, "", "base", nothing, number, str(number), ("base", "none"), nothing, decoding, size_bytes=size
    )


@pytest.fixture
def three() -> tuple[Directory, list[Live]]:
    """Versions 1 to 3, of which production is 1."""
    directory, lives = Directory(), [live(number) for number in (1, 2, 3)]
    for one in lives:
        directory.put(one)
    directory.flip("a", "production", lives[0].digest)
    return directory, lives


def test_where_all_are_in_use_the_least_recently_used_leaves_when_its_requests_are_done(
    three: tuple[Directory, list[Live]],
) -> None:
    directory, (_, second, third) = three
    with directory.acquire("a@2"), directory.acquire("a@3"):
        assert directory.take_idle(set(), limit_bytes=3, needed_bytes=1) == []
        # However many ask for it by now: it is no longer given out, and so its turn to go comes.
        with pytest.raises(UnknownModelError), directory.acquire("a@2"):
            pass
        with directory.acquire("a@3"), directory.acquire("a"):
            pass
        assert (second.leaving, third.leaving) == (True, False)
    assert directory.take_idle(set(), limit_bytes=3, needed_bytes=1) == [second]


def test_what_was_about_to_leave_stays_when_an_alias_wants_it_or_room_was_found_elsewhere(
    three: tuple[Directory, list[Live]],
) -> None:
    directory, (_, second, third) = three
    with directory.acquire("a@2"), directory.acquire("a@3"):
        directory.take_idle(set(), limit_bytes=3, needed_bytes=1)
        assert directory.flip("a", "production", second.digest) is second
        with directory.acquire("a@2") as found:
            assert found is second
        directory.take_idle(set(), limit_bytes=3, needed_bytes=2)
        assert third.leaving
        directory.stay()
        with directory.acquire("a@3"):
            pass


def test_nobody_leaves_for_what_would_not_fit_even_then(three: tuple[Directory, list[Live]]) -> None:
    directory, _ = three
    with directory.acquire("a@2"), directory.acquire("a@3"):
        assert directory.take_idle(set(), limit_bytes=3, needed_bytes=3) == []
        with directory.acquire("a@2"), directory.acquire("a@3"):
            pass


def test_what_was_brought_up_stays_until_it_is_let_go(three: tuple[Directory, list[Live]]) -> None:
    directory, (_, second, third) = three
    assert directory.hold(second.digest) is second
    assert directory.take_idle(set(), limit_bytes=2, needed_bytes=1) == [third]
    with directory.acquire("a@2"):
        assert directory.take_idle(set(), limit_bytes=1, needed_bytes=1) == []
        assert not second.leaving
    directory.let_go(second)
    assert directory.take_idle(set(), limit_bytes=1, needed_bytes=1) == [second]
    assert directory.hold(third.digest) is None


def test_a_wrong_name_is_answered_with_the_nearest_of_its_own_release(three: tuple[Directory, list[Live]]) -> None:
    directory, _ = three
    for number in range(300):
        directory._aliases[f"b{number}", "production"] = directory._aliases["a", "production"]
    with pytest.raises(UnknownModelError) as caught:
        directory.find("a@prodution")
    assert "a@production" in caught.value.mend
