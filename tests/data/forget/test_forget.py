"""Rows go from everything that holds them; all else stays as it was, and it is said what cannot go."""

import fcntl
import html
import json
import re
import struct
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from budwood.data.forget import forget, make_wanted, survey
from budwood.data.forget.found import InSnapshot
from budwood.data.forget.snapshot import without_rows
from budwood.data.rows import kept_rows, rejected_rows
from budwood.errors import DataError, StoreError
from budwood.evaluate.compare import compare
from budwood.evaluate.report import load_report
from budwood.identity import Digest, digest_file
from budwood.pipeline.known import earlier_snapshots
from budwood.release.promote import promote, rollback
from budwood.store import open_store
from budwood.text.normalise import normalise

from .conftest import NAME, SPLITS, House, probe, question, tokens_of

WANTED = make_wanted(texts=["zyxomorph   quillFEATHER"])


def take_out(house: House, wanted: Any = WANTED) -> Any:
    return forget(house.store, wanted, who="ben", reason="request 17")


def holders(house: House) -> list[str]:
    """Every file of the store that holds the person's name: as text, or as the tokens of one of her questions."""
    ids = [tokens_of(f"{spelled}, ") for spelled in (NAME, NAME.upper())]
    # The first token of a text may differ from what it is within one, the last may join with what follows.
    cores = [one[1:-1] for one in ids]
    shapes = [struct.pack(f"<{len(one)}i", *one) for one in cores]
    lists = [", ".join(map(str, one)) for one in cores]
    found = []
    for path, data in house.everything().items():
        assert not path.endswith((".gz", ".zst", ".parquet", ".npy")), "nothing in a store is packed; else look into it here"
        text = data.decode("utf-8", "replace")
        plain = normalise(html.unescape(text))
        if normalise(NAME) in plain or any(shape in data for shape in shapes) or any(ids in text for ids in lists):
            found.append(path)
    return found


def test_nothing_of_the_person_is_left_in_any_byte(house: House) -> None:
    before = holders(house)
    kinds = {path.split("/")[0] + ":" + path.rsplit("/", 1)[-1] for path in before}
    assert {
        "objects:train.jsonl",
        "objects:validation.jsonl",
        "objects:test.jsonl",
        "objects:rejected.jsonl",
        "objects:cases.jsonl",
        "objects:probes.json",
        "attestations:report.html",
        "cache:ids.bin",
        "work:probes.json",
    } <= kinds, "the house must hold her words wherever they can be"
    done = take_out(house)
    assert holders(house) == []
    assert done.is_complete
    assert done.left.is_empty
    verified = house.store.verify()
    assert verified.problems == ()
    assert {stone.digest for stone in verified.forgotten} == {
        house.made[key] for key in ("snapshot", "report", "baseline", "release")
    }
    assert all(stone.successor == done.replaced[stone.digest] for stone in verified.forgotten)


def test_a_dry_run_counts_and_touches_nothing(house: House) -> None:
    before = house.everything()
    found = survey(house.store, WANTED)
    assert house.everything() == before
    snapshot = house.made["snapshot"]
    kept = [row for row in kept_rows(house.store, snapshot) if normalise(NAME) in normalise(json.dumps(row.value))]
    rejected = [row for row in rejected_rows(house.store, snapshot) if normalise(NAME) in normalise(json.dumps(row.value))]
    assert found.by_split == Counter([*(row.split for row in kept), *("rejected" for _ in rejected)])
    assert found.rows == len(kept) + len(rejected) == 23
    assert found.snapshots[0].ids == {row.row_id for row in kept} | {row.row_id for row in rejected}
    assert found.sources == {"rows.jsonl": sorted({row.line for row in kept} | {row.line for row in rejected})}
    tests = found.by_split["test"]
    assert [(len(one.cases), one.total) for one in found.reports] == [
        (tests, house.store.manifest(snapshot).body["counts"]["test"])
    ] * 2
    assert [(one.titles, one.probes, one.live) for one in found.releases] == [(["support@1"], (0,), ())]
    assert dict(found.trained.runs) == {house.made["run"]: found.by_split["train"]}
    assert found.trained.results == (house.made["adapter"],)
    assert [f"{row.name}@{row.version}" for row in found.trained.releases] == ["support@1"]
    assert len(found.work) == 1


def test_what_stays_keeps_its_bytes_and_the_figures_are_those_of_the_rows(house: House) -> None:
    old = house.made["snapshot"]
    before = {name: house.lines(old, name) for name in (*SPLITS, "rejected")}
    body_before = house.store.manifest(old).body
    new = take_out(house).replaced[old]
    body = house.store.manifest(new).body
    kept: list[dict[str, Any]] = []
    for name, lines in before.items():
        stay = [line for line in lines if normalise(NAME).encode() not in line.lower()]
        assert house.lines(new, name) == stay
        assert body["counts"][name] == len(stay)
        kept += [json.loads(line) for line in stay] if name != "rejected" else []
    counts = body["counts"]
    assert counts["read"] == body_before["counts"]["read"] == counts["kept"] + counts["rejected"] + counts["forgotten"] == 84
    assert counts["forgotten"] == 23
    sizes = Counter(row["group"] for row in kept)
    by_split = {split: len({row["group"] for row in kept if row["split"] == split}) for split in SPLITS}
    assert {key: body["groups"][key] for key in ("count", "largest", *SPLITS)} == {
        "count": len(sizes),
        "largest": max(sizes.values()),
        **by_split,
    }
    for split in SPLITS:
        tokens = sorted(row["tokens"] for row in kept if row["split"] == split)
        figures = body["lengths"][split]
        assert (figures["rows"], figures["total"], figures["min"], figures["max"]) == (
            len(tokens),
            sum(tokens),
            tokens[0],
            tokens[-1],
        )
    assert body["rejected_by"] == Counter(row["rule"] for row in house.rows(new, "rejected"))
    assert body["forgets"] == {"of": old, "rows": 23}
    assert house.store.manifest(new).parents == (old,)
    assert f"+ {counts['rejected']:,} rejected + 23 removed on request since" in house.store.file(new, "card.md").read_text()
    listed = json.loads(house.store.file(new, "croissant.json").read_text())["distribution"]
    assert {one["name"]: one["sha256"] for one in listed} == {
        f"{name}.jsonl": digest_file(house.store.file(new, f"{name}.jsonl")) for name in (*SPLITS, "rejected")
    }


def test_figures_of_an_untouched_snapshot_are_those_that_prepare_wrote(house: House) -> None:
    snapshot = house.made["snapshot"]
    body = house.store.manifest(snapshot).body
    made = dict(house.store.manifest(without_rows(house.store, _nothing(snapshot), WANTED, who="ben")).body)
    assert made.pop("forgets") == {"of": snapshot, "rows": 0}
    counts = {key: count for key, count in made.pop("counts").items() if key != "forgotten" or count}
    assert {**made, "counts": counts} == body


def test_a_snapshot_whose_rows_are_not_those_that_were_counted_is_refused(house: House) -> None:
    hit = replace(_nothing(house.made["snapshot"]), rows={"train": ("0123456789abcdef",)})
    with pytest.raises(DataError, match="and 1 removed rows are not the 84 that were read"):
        without_rows(house.store, hit, WANTED, who="ben")


def _nothing(snapshot: Digest) -> InSnapshot:
    return InSnapshot(snapshot, "support", {}, 0, {}, {})


def test_rows_of_a_column_go_rejected_ones_too(house: House) -> None:
    found = survey(house.store, make_wanted(columns=["customer= c-4711"]))
    # The duplicate and the empty answer; of the broken line nobody knows the columns.
    assert found.by_split["rejected"] == 2
    assert found.snapshots[0].copies == 0
    assert found.rows == 22
    assert survey(house.store, make_wanted(columns=["customer=C-4"])).is_empty
    assert survey(house.store, make_wanted(columns=["owner=C-4711"])).is_empty


def test_a_row_goes_by_its_id_and_one_that_is_nowhere_is_named(house: House) -> None:
    row = house.rows(house.made["snapshot"], "test")[0]
    done = take_out(house, make_wanted(rows=[row["row_id"][:8], "ffffffffffff"]))
    assert done.found.rows == 1
    assert done.found.missed == ("ffffffffffff",)
    assert dict(done.found.trained.runs) == {}
    assert row["row_id"] not in {one["row_id"] for one in house.rows(done.replaced[house.made["snapshot"]], "test")}


def test_a_pattern_finds_what_it_fits(house: House) -> None:
    found = survey(house.store, make_wanted(patterns=[question(7)[:9], question(9)[-8:] + r"\?$"]))
    assert found.rows == 2


def test_reports_without_the_cases_can_still_be_compared_and_the_verdict_stands(house: House) -> None:
    store, made = house.store, house.made
    old = [load_report(store, made[key]) for key in ("report", "baseline")]
    # The release is not touched here: its probes are others'.
    (store.work("cd" * 32) / "probes.json").write_bytes(b"{}")
    untouched = house.release(_other_probes(house), notes="second")
    release_before = store.manifest(untouched)
    done = take_out(house)
    new = [load_report(store, done.replaced[made[key]]) for key in ("report", "baseline")]
    comparison = compare(new[0], new[1], primary="exact", alpha=0.05, resamples=200)
    stay = [case for case in old[0].cases if NAME.lower() not in json.dumps(case).lower()]
    assert list(new[0].cases) == stay
    assert 0 < len(stay) < len(old[0].cases)
    assert new[0].suite == new[1].suite != old[0].suite
    assert comparison.fixed == tuple(case["case_id"] for case in stay)
    assert new[0].latency == old[0].latency
    assert new[0].metrics["exact"] == store.manifest(new[0].digest).body["metrics"]["exact"] == 1.0
    assert store.manifest(untouched) == release_before
    assert store.verify().ok


def _other_probes(house: House) -> Any:
    from budwood.engine.probes import ProbeSet

    return ProbeSet(0.01, 0.003, (probe("a question of nobody"),), {"bfloat16": 0.003})


def test_an_answer_that_repeats_the_words_goes_too(house: House) -> None:
    """The base repeats every question, so its report holds words of training rows where a model would have learnt them."""
    store = house.store
    parrot = house.put("adapter", {"adapter_model.safetensors": b"\x02"}, parents=[house.made["base"]])
    report = house.report(house.made["snapshot"], "adapter", parrot, lambda case: f"as {NAME} said")
    assert take_out(house).replaced[report] is None
    assert store.tombstone_of(report) is not None
    assert store.verify().ok


def test_the_next_prepare_builds_on_what_took_the_place(house: House) -> None:
    old = house.made["snapshot"]
    key = house.store.action("prepare", 1, {}, [], 0)
    places = {row.row_id: row.split for row in kept_rows(house.store, old)}
    new = take_out(house).replaced[old]
    said: list[str] = []
    job = house.job()
    object.__setattr__(job, "report", lambda event: said.append(event.message))
    assert earlier_snapshots(job) == [None, new]
    assert said == [f"23 rows were removed from snapshot {old[:12]} on request: sources that hold them bring them back"]
    assert house.store.done(key) == new
    source = house.folder / "rows.jsonl"
    lines = [line for line in source.read_text().splitlines() if NAME.lower() not in line.lower()]
    source.write_text("".join(line + "\n" for line in lines) + json.dumps({"prompt": "a new one", "completion": "yes"}) + "\n")
    next_one = house.prepare(onto=new)
    before = {row.value["messages"][-2]["content"]: places[row.row_id] for row in kept_rows(house.store, new)}
    after = {row.value["messages"][-2]["content"]: row.split for row in kept_rows(house.store, next_one)}
    assert before.items() <= after.items()
    assert len(after) == len(before) + 1


def test_a_live_release_stays_until_the_one_without_the_probe_is_promoted(house: House) -> None:
    store, old = house.store, house.made["release"]
    promote(store, "support@1", who="anna", reason="")
    first = take_out(house)
    new = first.offered[old]
    assert not first.is_complete
    assert first.left.releases[0].live == ("support@production",)
    assert [path.rsplit("/", 1)[-1] for path in holders(house)] == ["probes.json"]
    assert store.manifest(new).body == {**store.manifest(old).body, "forgets": {"of": old, "probes": 1}}
    assert len(json.loads(store.file(new, "probes.json").read_text())["probes"]) == 2
    moved = promote(store, "support@2", who="anna", reason="without the probe")
    assert moved.digest == new
    assert take_out(house).is_complete
    assert holders(house) == []
    assert store.verify().ok
    assert store.tombstone_of(old) is not None


def test_a_rollback_goes_to_what_took_the_place(house: House) -> None:
    store, old = house.store, house.made["release"]
    promote(store, "support@1", who="anna", reason="")
    second = house.release(_other_probes(house), notes="second")
    promote(store, "support@2", override="test", who="anna", reason="")
    new = take_out(house).replaced[old]
    assert rollback(store, "support", who="anna", reason="").digest == new
    assert store.exists(second)
    assert store.verify().ok


def test_a_live_release_without_another_probe_is_named(house: House) -> None:
    from budwood.engine.probes import read_probes

    store = house.store
    mine = read_probes(store.file(house.made["release"], "probes.json"))
    alone = house.release(replace(mine, probes=mine.probes[:1]), notes="alone")
    promote(store, "support@2", override="test", who="anna", reason="")
    done = take_out(house)
    assert done.offered == {alone: None}
    assert not done.is_complete


def test_probes_that_cannot_be_read_are_said_not_passed_over(house: House) -> None:
    store = house.store
    base = house.put("base", body={"id": "elsewhere", "weights_digest": "cd" * 32})
    house.release(_other_probes(house), base={"id": "elsewhere", "object": base, "weights_digest": "cd" * 32})
    done = take_out(house)
    assert [place.why for place in done.left.unread] == [
        "the base elsewhere is not where it was, and its tokenizer is needed to read them"
    ]
    assert not done.is_complete
    assert store.verify().ok


def test_what_is_in_use_is_refused_before_anything_is_written(house: House) -> None:
    before = house.everything()
    with open_store(house.store.root) as training:
        assert training.done(training.action("prepare", 1, {}, [], 0)) == house.made["snapshot"]
        with pytest.raises(StoreError) as caught:
            take_out(house)
    assert caught.value.what == f"A command that is running works with snapshot {house.made['snapshot'][:12]}."
    assert house.everything() == before
    assert take_out(house).is_complete


def test_two_at_once_are_one_after_the_other(house: House) -> None:
    with (house.store.root / "tmp" / ".forget").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="Another process is taking rows out"):
            take_out(house)
    assert take_out(house).is_complete


def test_a_second_time_there_is_nothing_to_do(house: House) -> None:
    take_out(house)
    events = house.store.history()
    again = take_out(house)
    assert again.found.is_empty
    assert again.is_complete
    assert again.replaced == {}
    assert house.store.history() == events


def test_rows_that_somebody_stores_meanwhile_are_found_by_the_second_look(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    from budwood.store import Store

    real = Store.remove

    def late(self: Store, *arguments: Any, **keys: Any) -> None:
        real(self, *arguments, **keys)
        lines = json.dumps(
            {"row_id": "ab" * 8, "messages": [{"role": "user", "content": NAME}], "source": {"file": "x", "line": 1}}
        )
        house.put("snapshot", {"train.jsonl": lines.encode() + b"\n"}, body={"name": "other"})

    monkeypatch.setattr(Store, "remove", late)
    done = take_out(house)
    assert not done.is_complete
    assert [one.name for one in done.left.snapshots] == ["other"]


def test_the_record_names_runs_and_releases_and_no_word_of_the_rows(house: House) -> None:
    done = take_out(house)
    begun, ended = (next(e for e in house.store.history() if e.kind == kind) for kind in ("removal_begun", "removal_ended"))
    facts = begun.detail["facts"]
    assert facts["rows"] == 23
    assert facts["trained"]["runs"] == {house.made["run"]: done.found.by_split["train"]}
    assert facts["trained"]["releases"] == ["support@1"]
    assert ended.detail == {"of": begun.seq, "facts": facts}
    told = json.dumps([event.as_dict() for event in house.store.history()]) + json.dumps(done.as_dict())
    assert not re.search("zyxo|quill|C-4711|amber", told, re.IGNORECASE)
    assert {event.reason for event in house.store.history() if event.kind in ("removal_begun", "forgotten")} == {"request 17"}


@pytest.mark.parametrize(
    ("reason", "message"),
    [(" ", "A removal needs a reason."), (f"{NAME.lower()} asked", "The reason, or who acts, holds what is looked for")],
)
def test_a_reason_that_cannot_be_kept_is_refused(house: House, reason: str, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        forget(house.store, WANTED, who="ben", reason=reason)
    assert house.store.verify().forgotten == ()


def test_what_cannot_be_taken_out_is_named(house: House) -> None:
    store = house.store
    (store.root / "notes.txt").write_text(f"remember {NAME}")
    store.add_release("support", house.release(_other_probes(house), notes=f"of {NAME}"), who="anna", reason="")
    done = take_out(house)
    stays = {place.where.rsplit("/", 1)[-1]: place.why for place in done.left.elsewhere}
    assert stays["notes.txt"] == "not written by what takes rows out: delete it yourself"
    assert "make it again without" in stays["manifest.json"]
    assert not done.is_complete


def test_a_page_beside_an_object_that_stays_goes(house: House) -> None:
    run = house.made["run"]
    page = house.store.attach(run, "deep/page.html", f"<b>{NAME}</b>".replace(" ", "&#32;").encode())
    script = house.store.attach(run, "script.html", f"<script>{NAME}</script>".replace("Z", "\\u005a").encode())
    found = [str(one) for one in survey(house.store, WANTED).attachments]
    assert found == [f"{name} beside {run[:12]}" for name in ("script.html", "deep/page.html")]
    assert take_out(house).is_complete
    assert not page.exists()
    assert not script.exists()
    page.write_text(NAME)
    again = take_out(house)
    assert again.is_complete
    assert again.replaced == {}
    assert not page.exists()


def test_only_one_snapshot_and_what_came_of_it(house: House) -> None:
    other = house.put(
        "snapshot",
        {
            "train.jsonl": json.dumps(
                {"row_id": "ab" * 8, "messages": [{"role": "user", "content": NAME}], "source": {"file": "x", "line": 1}}
            ).encode()
            + b"\n"
        },
        body={"name": "other"},
    )
    found = survey(house.store, WANTED, snapshots=[other])
    assert [one.digest for one in found.snapshots] == [other]
    assert found.reports == ()
    assert found.releases == ()


def test_other_lists_of_a_snapshot_lose_their_lines_and_unknown_files_are_refused(house: House) -> None:
    old = house.made["snapshot"]
    files = {entry.path: house.store.file(old, entry.path).read_bytes() for entry in house.store.manifest(old).files}
    gone = next(iter(survey(house.store, WANTED).snapshots[0].ids))
    lists = [{"prompt": f"of {NAME}"}, {"rows": [{"id": gone}]}, {"prompt": "of nobody"}]
    files["conflicts.jsonl"] = "".join(json.dumps(one) + "\n" for one in lists).encode()
    listed = house.put("snapshot", files, body=house.store.manifest(old).body)
    refused = house.put("snapshot", files | {"notes.txt": NAME.encode()}, body=house.store.manifest(old).body)
    with pytest.raises(DataError, match=r"notes\.txt holds what is looked for, and nobody here knows"):
        take_out(house)
    assert house.store.exists(old)
    house.store.tombstone(refused, who="anna", reason="by hand")
    new = take_out(house).replaced[listed]
    assert house.rows(Digest(new), "conflicts") == [{"prompt": "of nobody"}]


def test_weights_that_came_of_it_are_followed(house: House) -> None:
    """A run that went on from the adapter, and a composition of it."""
    made = house.made
    later = house.put("adapter", {"adapter_model.safetensors": b"\x03"}, parents=[made["base"]])
    run = house.put("run", parents=[made["base"], later, made["adapter"]], body={"result": later})
    clean = house.put("run", parents=[made["base"]], body={"result": made["base"]})
    trained = survey(house.store, WANTED).trained
    assert trained.runs[run] == 0
    assert clean not in trained.runs
    assert set(trained.results) == {made["adapter"], later}


def test_sampled_requests_lose_their_lines_too(house: House) -> None:
    from datetime import date

    from budwood.store import traffic

    path = traffic.place(house.store.root, "support", "served", date(2026, 11, 26), "s")
    others = [json.dumps({"prompt": question(number), "completion": "It is."}).encode() for number in range(3)]
    said = json.dumps({"messages": [{"role": "user", "content": f"I am {NAME.lower()}"}], "request": "r"}).encode()
    torn = f'{{"prompt": "{NAME}'.encode()
    traffic.append(path, [others[0], said, others[1], torn, others[2]])
    found = survey(house.store, WANTED)
    assert [(one.path, one.lines) for one in found.requests] == [("traffic/support/served-2026-11-26-s.jsonl", 2)]
    done = take_out(house)
    assert path.read_bytes().splitlines() == others
    assert done.left.requests == ()
    ended = [event for event in house.store.history() if event.kind == "removal_ended"][-1]
    assert ended.detail["facts"]["requests"] == 2


def test_a_copy_of_a_row_goes_from_sampled_requests_with_it(house: House) -> None:
    from datetime import date

    from budwood.store import traffic

    row = next(row for row in house.rows(house.made["snapshot"], "train") if row["slices"]["customer"] != "C-4711")
    path = traffic.place(house.store.root, "support", "served", date(2026, 11, 26), "s")
    other = json.dumps({"messages": [{"role": "user", "content": "other"}]}).encode()
    traffic.append(path, [json.dumps({"messages": row["messages"], "request": "r"}).encode(), other])
    take_out(house, make_wanted(rows=[row["row_id"]]))
    assert path.read_bytes().splitlines() == [other]
