"""How much planted dirt the cleaning rules find, kind by kind, and how many clean rows they touch.

    python benchmarks/dirt.py [--count 200] [--clean 2000] [--seed 0] [--data FOLDER] [--missed]

Every kind is planted `count` times in each corpus (see dirt_planting.py), in the default rules with `language = "flag"`. Found
means that the kind's own rule dropped, flagged or changed the row, and that what it changed is gone. Clean rows are the same
corpora without dirt; with --data, also real sets (gsm8k, e2e_nlg, sharegpt_sample, banking77), in which dirt is rare but real.
--missed lists what was not found. Asserts nothing.
"""

import argparse
import csv
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from budwood.identity import Digest
from budwood.prepare.row import Drop, Message, Origin, Row
from budwood.prepare.rules.build import build_rules
from budwood.prepare.rules.rule import Rule
from budwood.recipe import PrepareSection
from dirt_planting import Planted, Turns, clean_rows, dirty_rows

CORPORA = ("support", "office", "other")
RULE_OF = {
    "placeholder": "empty_answer", "empty": "empty_answer", "language_mismatch": "language", "language_not_allowed": "language",
    "mojibake": "unicode", "broken_json": "json_answer", "email": "pii", "phone": "pii", "card": "pii", "iban": "pii",
    "national_id": "pii", "ip": "pii", "secret": "pii",
}  # fmt: skip
"""Kind → rule, where their names differ."""
FORBIDDEN = ["blockhead", "nitwit*", "go jump in a lake", "dunderhead", "bird brain", "numskull*", "simpleton"]
SCHEMA = {
    "type": "object",
    "required": ["intent", "order"],
    "properties": {"intent": {"enum": ["refund", "repair"]}, "order": {"type": "integer"}},
    "additionalProperties": False,
}
SPECIAL: Mapping[str, Mapping[str, Any]] = {
    "broken_json": {"answer_schema": "schema.json"},
    "label": {"labels": ["refund", "repair"]},
    "language_not_allowed": {"languages": ["en", "de", "fr", "es"]},
    "truncated": {"truncated": "drop"},
    "false_access": {"false_access": "drop"},
    "refusal": {"refusal": "drop"},
}
"""What a recipe says beside the defaults, so that the kind can be found, or is dropped."""


@dataclass
class Tally:
    """What became of the rows of a kind."""

    planted: int = 0
    by: Counter[str] = field(default_factory=Counter)
    missed: list[Planted] = field(default_factory=list)

    @property
    def found(self) -> int:
        return self.planted - len(self.missed)

    @property
    def share(self) -> float:
        return self.found / self.planted


def find_dirt(corpus: str, count: int, seed: int, folder: Path) -> dict[str, Tally]:
    """Plant every kind `count` times and let the rules look; `folder` takes the schema."""
    (folder / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    rules = {kind: _rules(folder, special) for kind, special in SPECIAL.items()}
    usual = _rules(folder, {})
    tallies: dict[str, Tally] = {}
    for number, planted in enumerate(dirty_rows(corpus, count, seed)):
        tally = tallies.setdefault(planted.kind, Tally())
        tally.planted += 1
        kind = judge(planted, rules.get(planted.kind, usual), number)
        if kind:
            tally.by[kind] += 1
        else:
            tally.missed.append(planted)
    return tallies


def judge(planted: Planted, rules: Sequence[Rule], number: int) -> str:
    """Say what the kind's own rule did: "dropped", "flagged" or "changed"; empty for nothing, or not enough."""
    wanted = RULE_OF.get(planted.kind, planted.kind)
    row = as_row(planted.turns, number)
    for rule in rules:
        outcome = rule.apply(row)
        if isinstance(outcome, Drop):
            return "dropped" if rule.name == wanted else ""
        row = outcome
    kinds = [touch.kind for touch in row.touched if touch.rule == wanted]
    if planted.gone and any(planted.gone in message.content for message in row.messages):
        return ""
    return str(kinds[-1]) if kinds else ""


def touch_clean(rows: Iterable[Turns], folder: Path) -> tuple[int, Counter[tuple[str, str]]]:
    """Count rows, and what rules did to them: (rule, "dropped" | "flagged" | "changed")."""
    rules = _rules(folder, {})
    done: Counter[tuple[str, str]] = Counter()
    total = 0
    for total, turns in enumerate(rows, start=1):
        row = as_row(turns, total)
        for rule in rules:
            outcome = rule.apply(row)
            if isinstance(outcome, Drop):
                done[rule.name, "dropped"] += 1
                break
            done.update({(touch.rule, touch.kind) for touch in outcome.touched[len(row.touched) :]})
            row = outcome
    return total, done


def as_row(turns: Turns, number: int) -> Row:
    origin = Origin("dirt", Digest("0" * 64), number)
    return Row(origin.row_id, origin, tuple(Message(role, text) for role, text in turns), {}, 1.0, "auto")


def _rules(folder: Path, special: Mapping[str, Any]) -> Sequence[Rule]:
    section = PrepareSection.model_validate({"language": "flag", "forbidden": FORBIDDEN, **special})
    return build_rules(section, folder=folder, token_length=None, context=0)


# --- real sets ---


def real_rows(folder: Path) -> Iterator[tuple[str, list[Turns]]]:
    """Public sets as pairs, those that are there."""
    for name, path, read in (
        ("gsm8k", "gsm8k/train.jsonl", _gsm8k),
        ("e2e_nlg", "e2e_nlg/valid.txt", _e2e),
        ("sharegpt_sample", "sharegpt_sample/dummy_conversation.json", _sharegpt),
        ("banking77", "banking77/train.csv", _banking),
    ):
        if (folder / path).is_file():
            yield name, list(read(folder / path))


def _gsm8k(path: Path) -> Iterator[Turns]:
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        yield (("user", record["question"]), ("assistant", record["answer"]))


def _e2e(path: Path) -> Iterator[Turns]:
    for line in path.read_text(encoding="utf-8").splitlines():
        facts, _, text = line.partition("||")
        yield (("user", facts.strip()), ("assistant", text.strip()))


def _sharegpt(path: Path) -> Iterator[Turns]:
    names = {"human": "user", "gpt": "assistant"}
    for record in json.loads(path.read_text(encoding="utf-8")):
        yield tuple((names[turn["from"]], turn["value"]) for turn in record["conversations"])


def _banking(path: Path) -> Iterator[Turns]:
    with path.open(encoding="utf-8", newline="") as file:
        for record in csv.DictReader(file):
            yield (("user", record["text"]), ("assistant", record["category"]))


# --- the table ---


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {corpus: find_dirt(corpus, options.count, options.seed, folder) for corpus in CORPORA}
        _print_found(found)
        if options.missed:
            _print_missed(found)
        sets = [(corpus, clean_rows(corpus, options.clean, options.seed)) for corpus in ("support", "office")]
        sets += list(real_rows(options.data)) if options.data else []
        print(f"\n{'clean rows':<18}{'rows':>8}{'dropped':>9}{'flagged':>9}  by")
        for corpus, rows in sets:
            total, done = touch_clean(rows, folder)
            shares = {kind: sum(n for (_, what), n in done.items() if what == kind) / total for kind in ("dropped", "flagged")}
            by = ", ".join(f"{rule} {what} {n}" for (rule, what), n in done.most_common())
            print(f"{corpus:<18}{total:>8,}{shares['dropped']:>9.2%}{shares['flagged']:>9.2%}  {by}")


def _print_found(found: Mapping[str, Mapping[str, Tally]]) -> None:
    print(f"{'planted':<22}" + "".join(f"{corpus:>10}" for corpus in found) + "  what was done")
    for kind in next(iter(found.values())):
        tallies = [tallies[kind] for tallies in found.values()]
        done: Counter[str] = sum((tally.by for tally in tallies), Counter())
        print(f"{kind:<22}" + "".join(f"{tally.share:>10.1%}" for tally in tallies) + f"  {_shares(done)}")


def _shares(done: Counter[str]) -> str:
    return ", ".join(f"{what} {n / done.total():.0%}" for what, n in done.most_common())


def _print_missed(found: Mapping[str, Mapping[str, Tally]]) -> None:
    for corpus, tallies in found.items():
        for kind, tally in tallies.items():
            for planted in tally.missed[:12]:
                print(f"  missed in {corpus}, {kind}: {[text[-160:] for _, text in planted.turns]}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="rows of each kind in each corpus")
    parser.add_argument("--clean", type=int, default=2000, help="clean rows of each corpus")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="folder with the public data sets")
    parser.add_argument("--missed", action="store_true", help="list what was not found")
    return parser.parse_args()


if __name__ == "__main__":
    main()
