"""Does production still ask what a live release was judged on?

The prompts of sampled requests are compared with those of the report's cases, by the test that `budwood data report
--production` makes: a classifier tries to tell them apart. The verdict is stale when it can, by more than a margin and beyond
doubt: the lower bound of its AUC lies above 0.5 + margin.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from budwood.data.report.clusters import prompt_of
from budwood.data.report.gather import PROMPTS, Prompt
from budwood.data.report.mirror import Comparison, compare
from budwood.data.report.sample import Sample
from budwood.data.rows import kept_rows
from budwood.errors import DataError
from budwood.identity import Digest, digest_json, short
from budwood.stats.two_sample import Untestable
from budwood.store import AliasRow, Store
from budwood.store import traffic as files
from budwood.store.store import utc_now
from budwood.text.normalise import normalise

HELD_OUT, PRODUCTION = "the held-out set", "production"
KINDS = ("served", "served-plain")
Finding = Literal["stale", "fresh", "untestable"]


@dataclass(frozen=True)
class Drift:
    """What was found.

    Args:
        live: the release, as the alias points to it.
        comparison: of held-out prompts with production's.
        margin: by how much the AUC may lie above 0.5.
        days: of production that were looked at.
    """

    live: AliasRow
    comparison: Comparison
    margin: float
    days: int

    @property
    def finding(self) -> Finding:
        """What is untestable changes nothing: too few prompts are no news."""
        found = self.comparison.found
        if isinstance(found, Untestable):
            return "untestable"
        return "stale" if found.auc.low > 0.5 + self.margin else "fresh"

    @property
    def sentence(self) -> str:
        words = {
            "stale": f"The verdict is stale: the margin is {self.margin:g} above 0.5.",
            "fresh": f"The verdict stands: that is within the margin of {self.margin:g} above 0.5, or may be.",
            "untestable": "Nothing is changed by that.",
        }
        return f"{self.comparison.sentence} {words[self.finding]}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.live.name,
            "alias": self.live.alias,
            "release": self.live.digest,
            "finding": self.finding,
            "margin": self.margin,
            "days": self.days,
            **self.comparison.as_dict(),
            "says": self.sentence,
        }


def measure_drift(store: Store, name: str, alias: str, *, days: int, margin: float) -> Drift:
    """Compare what was asked under an alias of late with what its release was judged on.

    Args:
        store: the store.
        name: of the releases.
        alias: whose live release is meant, and whose requests.
        days: how many days back requests are looked at.
        margin: see `Drift`.

    Raises:
        DataError: nothing is live there, or the held-out set is gone.
    """
    store.check_known(name)
    live = next((row for row in store.aliases(name) if row.alias == alias), None)
    if live is None:
        raise DataError(f"Nothing is live as {name}@{alias}.", mend=f"Read `budwood status {name}`.")
    held: Sample[Prompt] = Sample(PROMPTS)
    for prompt in _held_out(store, live.digest):
        held.offer(digest_json(prompt.text), lambda prompt=prompt: prompt)  # type: ignore[misc]
    asked: Sample[Prompt] = Sample(PROMPTS)
    since = utc_now() - timedelta(days=days)
    for path in files.files(store.root, name, kinds=KINDS):
        if files.day_of(path) >= since.date():
            for key, text in _requests(path, name, alias, since.isoformat()):
                asked.offer(key, lambda text=text: Prompt(text, f"says {normalise(text)}"))  # type: ignore[misc]
    return Drift(live, compare((HELD_OUT, PRODUCTION), held, asked), margin, days)


def record_drift(store: Store, drift: Drift, *, who: str) -> bool:
    """Keep what was found; give whether the verdict has become stale, or fresh again, by it."""
    if drift.finding == "untestable":
        return False
    live = drift.live
    event = store.drifts.put(
        live.name,
        live.alias,
        live.digest,
        stale=drift.finding == "stale",
        says=drift.sentence,
        detail={key: value for key, value in drift.as_dict().items() if key not in ("name", "alias", "release", "says")},
        who=who,
    )
    return event is not None


def _held_out(store: Store, release: Digest) -> Iterator[Prompt]:
    """The prompts of the cases that the verdict rests on; of a release without report, its snapshot's test rows."""
    body = store.manifest(release).body
    report, snapshot = body.get("report"), body.get("snapshot")
    if report is not None:
        lines = store.file(store.current(report), "cases.jsonl").read_bytes().splitlines()
        for case in (json.loads(line.decode("utf-8", "surrogatepass")) for line in lines):
            yield Prompt(prompt_of(case["prompt"]), str(case.get("group") or case["case_id"]))
    elif snapshot is not None:
        for row in kept_rows(store, store.current(snapshot)):
            if row.split == "test":
                yield Prompt(prompt_of(row.messages), row.group)
    else:
        raise DataError(f"Release {short(release)}… was judged on nothing.", mend="Release a run with a report.")


def _requests(path: Path, name: str, alias: str, since: str) -> Iterator[tuple[str, str]]:
    """Key and prompt of each request under the alias; half a line of a killed process is passed over."""
    models = {f"{name}@{alias}", *([name] if alias == "production" else [])}
    with path.open("rb") as lines:
        for line in lines:
            try:
                record = json.loads(line.decode("utf-8", "surrogatepass"))
            except ValueError:
                continue
            if record.get("model") in models and record.get("at", "") >= since:
                text = prompt_of(record["messages"]) if "messages" in record else str(record.get("prompt", ""))
                if text.strip():
                    yield digest_json([record["request"], record["choice"]]), text
