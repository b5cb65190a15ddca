"""Names, releases, aliases: compare-and-swap, references, what is refused."""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from budwood.errors import StoreError
from budwood.identity import Digest
from budwood.store import HistoryEvent, Store, check_alias, check_name, open_store

from .conftest import Clock, Maker, on_both, put


@pytest.fixture
def releases(store: Store, make: Maker) -> list[Digest]:
    found = [make("release", body={"n": number}) for number in range(3)]
    for digest in found:
        store.add_release("support", digest, who="anna", reason="")
    return found


def test_releases_are_numbered_and_the_same_one_keeps_its_number(store: Store, releases: list[Digest]) -> None:
    assert [row.version for row in store.releases("support")] == [1, 2, 3]
    assert store.add_release("support", releases[1], who="anna", reason="") == 2
    assert store.add_release("other", releases[1], who="anna", reason="") == 1
    assert len([event for event in store.history() if event.kind == "released"]) == 4


def test_only_a_release_object_can_be_registered(store: Store, make: Maker) -> None:
    with pytest.raises(StoreError, match="is a snapshot, not a release"):
        store.add_release("support", make("snapshot"), who="anna", reason="")
    with pytest.raises(StoreError, match="There is no object"):
        store.add_release("support", "ab" * 32, who="anna", reason="")


def test_a_release_is_found_by_every_reference(store: Store, releases: list[Digest]) -> None:
    store.move_alias("support", "production", releases[1], who="anna", reason="")
    store.move_alias("support", "staging", releases[2], who="anna", reason="")
    first, second, third = releases
    for ref, digest in {
        "support": second,
        "support@production": second,
        "support@staging": third,
        "support@1": first,
        f"support@{first[:8]}": first,
        f"support@{first[:8]}…": first,
        f"support@1-{first[:12]}": first,
        first[:6]: first,
        first: first,
    }.items():
        assert store.find_release(ref).digest == digest, ref


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("suport", 'unknown release name "suport". Nearest: support.'),
        ("support@prod", 'unknown alias "prod". Nearest: production.'),
        ("support@9", "support has no release number 9; its numbers are 1 to 3."),
        ("support@000000", 'No release begins with "support@000000"'),
        ("support@2-000000", 'No release begins with "support@2-000000"'),
        ("../etc", "unknown release name"),
        ("support@\ud800", "unknown alias"),
        ("\ud800@1", "unknown release name"),
        ("support\x00@1", "unknown release name"),
        ("support@²", "unknown alias"),
        (f"support@{'9' * 5000}-000000", "No release begins with"),
        ("", "unknown release name"),
    ],
)
def test_a_wrong_reference_names_the_nearest(store: Store, releases: list[Digest], ref: str, words: str) -> None:
    store.move_alias("support", "production", releases[0], who="anna", reason="")
    with pytest.raises(StoreError) as caught:
        store.find_release(ref)
    assert words in caught.value.what


def test_a_name_that_nobody_has_heard_of_names_the_nearest(store: Store, releases: list[Digest]) -> None:
    store.add_event(HistoryEvent(0, "", "judged", "anna", "billing"))
    store.check_known("support")
    store.check_known("billing")
    with pytest.raises(StoreError) as caught:
        store.check_known("biling")
    assert str(caught.value) == (
        'No release "biling": unknown release name "biling". Nearest: billing.\n    Correct it, or read `budwood history`.'
    )


def test_the_place_of_an_alias_is_checked_in_the_words_of_a_move(store: Store, releases: list[Digest]) -> None:
    store.check_place("support", "production", None)
    store.move_alias("support", "production", releases[0], who="anna", reason="")
    store.check_place("support", "production", releases[0])
    for expect in (None, releases[1]):
        with pytest.raises(StoreError, match="as --expect says; it moved today at 14:00 UTC by anna"):
            store.check_place("support", "production", expect)


def test_an_alias_moves_only_from_where_it_is_expected(store: Store, releases: list[Digest]) -> None:
    first, second, third = releases
    store.move_alias("support", "production", first, expect=None, who="anna", reason="start")
    store.move_alias("support", "production", second, expect=first, who="deploy-bot", reason="better")
    before = store.history()
    with pytest.raises(StoreError) as caught:
        store.move_alias("support", "production", third, expect=first, who="anna", reason="late")
    assert str(caught.value) == (
        f'Alias "production" of support is at release {second[:12]}…, not at {first[:12]}… as --expect says; '
        "it moved today at 14:00 UTC by deploy-bot.\n"
        f"    Nothing was changed. Read `budwood history support`, then repeat with --expect {second[:12]}…."
    )
    assert store.history() == before
    assert store.find_release("support").digest == second


def test_expecting_nothing_where_there_is_something_and_the_other_way_round(store: Store, releases: list[Digest]) -> None:
    with pytest.raises(StoreError, match="does not exist, it is not at"):
        store.move_alias("support", "production", releases[0], expect=releases[1], who="anna", reason="")
    store.move_alias("support", "production", releases[0], who="anna", reason="")
    with pytest.raises(StoreError, match="not absent as --expect says"):
        store.move_alias("support", "production", releases[1], expect=None, who="anna", reason="")


def test_an_older_move_is_told_with_its_date(store: Store, clock: Clock, releases: list[Digest]) -> None:
    store.move_alias("support", "production", releases[0], who="anna", reason="")
    clock.now = clock.now.replace(day=3)
    with pytest.raises(StoreError, match=r"it moved on 2026-09-01 at 14:00 UTC by anna"):
        store.move_alias("support", "production", releases[1], expect=None, who="ben", reason="")


def test_moving_an_alias_to_where_it_is_changes_nothing(store: Store, releases: list[Digest]) -> None:
    first = store.move_alias("support", "production", releases[0], who="anna", reason="")
    again = store.move_alias("support", "production", releases[0], who="ben", reason="")
    assert again == first
    assert len([event for event in store.history() if event.kind == "promoted"]) == 1


def test_a_release_of_another_name_cannot_be_live_here(store: Store, make: Maker, releases: list[Digest]) -> None:
    stranger = make("release", body={"n": "other"})
    store.add_release("other", stranger, who="anna", reason="")
    with pytest.raises(StoreError, match="is not registered under support"):
        store.move_alias("support", "production", stranger, who="anna", reason="")
    assert store.aliases() == []


@on_both
def test_bad_59_of_eight_processes_that_move_an_alias_at_once_exactly_one_wins_each_time(
    store: Store, clock: Clock, releases: list[Digest]
) -> None:
    store.move_alias("support", "production", releases[0], who="anna", reason="")
    store.close()
    script = Path(__file__).parent / "racers.py"
    done = subprocess.run([sys.executable, script, store.root], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    rounds: list[list[str]] = json.loads(done.stdout)
    assert [len(said) for said in rounds] == [8] * len(rounds)
    for said in rounds:
        assert said.count("won") == 1
        assert all("as --expect says" in text for text in said if text != "won")
    moves = [event for event in store.history() if event.kind == "promoted"]
    assert len(moves) == 1 + len(rounds)
    assert [event.from_ for event in moves[1:]] == [event.to for event in moves[:-1]]
    assert store.find_release("support").digest == moves[-1].to
    assert store.verify().ok


@pytest.mark.parametrize(
    "name",
    ["../x", "a/b", "%2e%2e", "a\\b", "a\0b", "\u202egnp", "a\u200bb", "ѕupport", "a" * 10_000, "", ".", "..", "-a", "a-"],
)
def test_bad_48_names_that_could_deceive_are_refused_with_the_character(store: Store, make: Maker, name: str) -> None:
    release = make("release")
    for call in (
        lambda: store.add_release(name, release, who="x", reason=""),
        lambda: store.move_alias(name, "production", release, who="x", reason=""),
        lambda: store.move_alias("support", name, release, who="x", reason=""),
        lambda: store.observe("server", name, "production", release, True, ""),
    ):
        with pytest.raises(StoreError) as caught:
            call()
        assert len(caught.value.what) < 300
    assert store.history() == []


def test_the_offending_character_is_named() -> None:
    with pytest.raises(StoreError) as caught:
        check_name("ѕupport")
    assert str(caught.value) == (
        "The release name 'ѕupport' holds 'ѕ' (U+0455 CYRILLIC SMALL LETTER DZE), which is not allowed.\n"
        "    Use lower-case letters, digits, '.', '_' or '-'."
    )


@pytest.mark.parametrize("name", ["latest", "base", "none", "all", "default"])
def test_bad_50_reserved_words_are_refused(name: str) -> None:
    with pytest.raises(StoreError, match="is reserved"):
        check_name(name)
    with pytest.raises(StoreError, match="is reserved"):
        check_alias(name)


def test_bad_51_names_that_differ_by_case_cannot_both_exist() -> None:
    with pytest.raises(StoreError) as caught:
        check_name("Support")
    assert caught.value.mend == 'Write "support".'


@pytest.mark.parametrize("alias", ["3", "000123", "abcdef", "deadbeef12"])
def test_aliases_that_read_as_number_or_digest_are_refused(alias: str) -> None:
    with pytest.raises(StoreError, match="reads as a"):
        check_alias(alias)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=70))
def test_a_name_is_refused_or_stays_inside_any_folder(name: str) -> None:
    folder = Path("/srv/store/objects")
    try:
        check_name(name)
    except StoreError:
        return
    assert (folder / name).resolve().parent == folder
    assert name == name.lower()
    assert name.isascii()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(st.tuples(st.sampled_from(["production", "staging"]), st.integers(0, 2)), max_size=8))
def test_aliases_always_equal_the_replayed_history(tmp_path: Path, moves: list[tuple[str, int]]) -> None:
    with TemporaryDirectory(dir=tmp_path) as folder, open_store(Path(folder), clock=Clock()) as store:
        releases = [put(store, "release", body={"n": number}) for number in range(3)]
        for digest in releases:
            store.add_release("support", digest, who="x", reason="")
        expected: dict[str, Digest] = {}
        for alias, number in moves:
            store.move_alias("support", alias, releases[number], expect=expected.get(alias), who="x", reason="")
            expected[alias] = releases[number]
        assert {row.alias: row.digest for row in store.aliases()} == expected
        assert store.verify().ok
