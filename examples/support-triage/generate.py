"""Make the data of the support-triage example: customer messages and their triage, with real-life dirt in known places.

    python generate.py --seed 0 --out data

writes three files in three layouts, as they might come from three systems:

    tickets.jsonl   prompt and completion         the helpdesk's export
    inbox.csv       message and triage columns    the mailbox's export; messages have line breaks
    newer.jsonl     chat messages                 later tickets, for the second version of the adapter; clean
    planted.json    what is wrong in the first two, by kind, file and line, and what preparing them should reject

Each answer is decided by explicit cues in the message: the intent by the template, the product by one of its names, urgency
and sentiment by a sentence (none: normal, neutral), the order number by copying. Another seed gives other rows of the same
templates. Only the standard library is used.
"""

import argparse
import csv
import json
import random
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
TICKETS_SHARE = 0.65
PLANTS = {
    "email": 50,
    "phone": 20,
    "card": 30,
    "mojibake": 40,
    "broken_json": 20,
    "empty_answer": 15,
    "exact_duplicate": 40,
    "near_duplicate": 30,
    "copied_between_files": 40,
    "outvoted_label": 16,
    "tied_label": 8,
    "malformed_line": 4,
}
"""How often each kind of dirt is planted; every one hits other rows than the rest."""
EXPECTED = {
    "read": ("malformed_line",),
    "json_answer": ("broken_json",),
    "empty_answer": ("empty_answer",),
    "conflict": ("outvoted_label", "tied_label", "tied_label"),
    "exact_duplicate": ("exact_duplicate", "copied_between_files", "outvoted_label"),
    "near_duplicate": ("near_duplicate",),
}
"""Rule of `budwood prepare` → plants that it rejects a row for. A wrong label is outvoted by the right one and its copy, or
tied with the right one, and then both go."""


@dataclass(frozen=True)
class Ticket:
    """One row.

    Args:
        message: what the customer wrote.
        answer: compact JSON, or what dirt made of it.
        template: id of the body's frame; rows of one template belong in one split.
        channel: where it came in.
        kinds: what was planted in it.
        raw: stands in place of the whole line, for a malformed one.
    """

    message: str
    answer: str
    template: str
    channel: str
    kinds: tuple[str, ...] = ()
    raw: str = ""

    def planted(self, kind: str, **changes: str) -> "Ticket":
        return replace(self, kinds=(*self.kinds, kind), **changes)


def generate(out: Path, *, seed: int = 0, rows: int = 4000, newer: int = 1500) -> dict[str, Any]:
    """Write the files and give back what planted.json holds.

    Args:
        out: folder, made when missing.
        seed: of every random choice.
        rows: clean rows in the first two files together; at least 600, so that all the dirt finds a row of its own.
        newer: rows of the third file.
    """
    if rows < 2 * sum(PLANTS.values()):
        raise ValueError(f"rows = {rows}: at least {2 * sum(PLANTS.values())} are needed to plant all the dirt")
    draw = random.Random(seed)
    wording = tomllib.loads((HERE / "wording.toml").read_text(encoding="utf-8"))
    taken: set[tuple[str, str]] = set()
    clean = [_ticket(draw, wording, taken, later=False) for _ in range(rows)]
    recent = [_ticket(draw, wording, taken, later=True) for _ in range(newer)]
    cut = int(rows * TICKETS_SHARE)
    tickets, inbox = _plant(draw, wording, clean[:cut], clean[cut:])
    out.mkdir(parents=True, exist_ok=True)
    manifest = {
        "seed": seed,
        "rows": {"tickets.jsonl": len(tickets), "inbox.csv": len(inbox), "newer.jsonl": len(recent)},
        "planted": _by_kind({"tickets.jsonl": _write_jsonl(out / "tickets.jsonl", tickets),
                             "inbox.csv": _write_csv(out / "inbox.csv", inbox)}),
        "expected_rejected": {rule: sum(PLANTS[kind] for kind in kinds) for rule, kinds in EXPECTED.items()},
    }  # fmt: skip
    _write_chat(out / "newer.jsonl", recent)
    (out / "planted.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8", newline="\n")
    return manifest


# --- clean rows ---


def _ticket(draw: random.Random, wording: dict[str, Any], taken: set[tuple[str, str]], *, later: bool) -> Ticket:
    """Draw a row; no two rows of one template have one answer, so that none is another's near-duplicate by chance."""
    while True:
        intent, template, frame = _template(draw, wording, later=later)
        product = draw.choice(list(wording["products"]))
        urgency = draw.choices(["low", "normal", "high"], [3, 4, 3])[0]
        sentiment = draw.choices(["negative", "neutral", "positive"], [35, 40, 25])[0]
        order = f"{draw.choice(LETTERS)}{draw.randint(1, 9)}-{draw.randint(10000, 99999)}" if draw.random() < 0.75 else None
        values = {"intent": intent, "product": product, "urgency": urgency, "order_id": order, "sentiment": sentiment}
        answer = json.dumps(values, separators=(",", ":"))
        if (template, answer) not in taken:
            taken.add((template, answer))
            break
    body = frame.replace("{p}", draw.choice(wording["products"][product]))
    where = draw.choice(wording["order"]["given" if order else "absent"]).replace("{o}", order or "")
    extras = [where, draw.choice(wording["urgency"][urgency]), draw.choice(wording["sentiment"][sentiment])]
    draw.shuffle(extras)
    # The body comes first more often than not, but nothing has a fixed place.
    extras.insert(0 if draw.random() < 0.6 else draw.randint(0, 3), body)
    text = " ".join(part for part in extras if part)
    if draw.random() < 0.6:
        text = f"{draw.choice(wording['greetings'])} {text}"
    if draw.random() < 0.4:
        text = f"{text} {draw.choice(wording['endings'])}, {draw.choice(wording['names'])}"
    return Ticket(text, answer, template, draw.choice(["web", "email", "app"]))


def _template(draw: random.Random, wording: dict[str, Any], *, later: bool) -> tuple[str, str, str]:
    intent = draw.choice(list(wording["intents"]))
    words = wording["intents"][intent]
    ways = words["ways"] + (words["later_ways"] if later else [])
    what, way = draw.randrange(len(words["whats"])), draw.randrange(len(ways))
    phrase = words["whats"][what]
    frame = ways[way].replace("{what}", phrase).replace("{What}", phrase[0].upper() + phrase[1:])
    return intent, f"{intent}-{what}-{way}", frame


# --- dirt ---


def _plant(
    draw: random.Random, wording: dict[str, Any], tickets: list[Ticket], inbox: list[Ticket]
) -> tuple[list[Ticket], list[Ticket]]:
    """Plant all kinds, each in rows that no other kind has touched."""
    files = (list(tickets), list(inbox))
    # Rows still free, by file; copies between files need an original in the first one, so that file's are spared.
    free = [(0, i) for i in draw.sample(range(len(tickets)), len(tickets))]
    spare = [(1, i) for i in draw.sample(range(len(inbox)), len(inbox))]
    changes: dict[str, Callable[[Ticket], Ticket]] = {
        "email": lambda t: _say(draw, t, f"You can write to me at {_mail(draw, wording)}."),
        "phone": lambda t: _say(draw, t, f"My phone number is +44 20 7946 0{draw.randint(100, 999)}."),
        "card": lambda t: _say(draw, t, f"I paid with card {_card(draw)}."),
        "mojibake": lambda t: _mojibake(draw, wording, t),
        "broken_json": lambda t: replace(t, answer=_break(draw, t.answer)),
        "empty_answer": lambda t: replace(t, answer=draw.choice(["", " ", "n/a"])),
    }
    for kind, change in changes.items():
        for turn in range(PLANTS[kind]):
            file, i = (free if turn % 2 else spare).pop()
            files[file][i] = change(files[file][i]).planted(kind)
    originals = (files[0][i] for _, i in free)
    extras = _extras(draw, originals, files[0])
    for file, ticket, original in extras:
        # A copy stands behind what it copies, so that of the two the original stays.
        first = files[file].index(original) + 1 if original else 0
        files[file].insert(draw.randint(first, len(files[file])), ticket)
    return files


def _extras(draw: random.Random, originals: Iterator[Ticket], tickets: list[Ticket]) -> list[tuple[int, Ticket, Ticket | None]]:
    """Make the rows that come in addition: number of the file, row, and the one that it has to stand behind."""
    extras: list[tuple[int, Ticket, Ticket | None]] = []
    for kind, other in [("exact_duplicate", 0), ("near_duplicate", 0), ("copied_between_files", 1)]:
        for _ in range(PLANTS[kind]):
            ticket = next(originals)
            text = _misspell(draw, ticket.message) if kind == "near_duplicate" else _respace(draw, ticket.message)
            extras.append((other, ticket.planted(kind, message=text), None if other else ticket))
    for kind in ("outvoted_label", "tied_label"):
        for _ in range(PLANTS[kind]):
            ticket = next(originals)
            extras.append((0, ticket.planted(kind, answer=_mislabel(draw, ticket.answer)), None))
            if kind == "outvoted_label":
                extras.append((1, ticket, None))
    for _ in range(PLANTS["malformed_line"]):
        line = _as_line(draw.choice(tickets))
        cut = Ticket("", "", "", "", ("malformed_line",), raw=line[: draw.randint(20, len(line) - 2)])
        extras.append((0, cut, None))
    return extras


def _say(draw: random.Random, ticket: Ticket, sentence: str) -> Ticket:
    return replace(ticket, message=f"{ticket.message} {sentence}" if draw.random() < 0.5 else f"{sentence} {ticket.message}")


def _mail(draw: random.Random, wording: dict[str, Any]) -> str:
    return f"{draw.choice(wording['names']).lower()}.{draw.randint(10, 99)}@example.{draw.choice(['com', 'org', 'net'])}"


def _card(draw: random.Random) -> str:
    digits = [4, *(draw.randint(0, 9) for _ in range(14))]
    doubled = [d if place % 2 else sum(divmod(2 * d, 10)) for place, d in enumerate(digits)]
    number = "".join(map(str, [*digits, -sum(doubled) % 10]))
    return draw.choice([number, " ".join(number[i : i + 4] for i in range(0, 16, 4))])


def _mojibake(draw: random.Random, wording: dict[str, Any], ticket: Ticket) -> Ticket:
    name = draw.choice(wording["accented_names"])
    text = f"{ticket.message} I’m a regular customer. {draw.choice(wording['endings'])}, {name}"
    return replace(ticket, message=text.encode("utf-8").decode("cp1252"))


def _break(draw: random.Random, answer: str) -> str:
    values = json.loads(answer)
    ways = [
        lambda: answer[: draw.randint(10, len(answer) - 1)],
        lambda: answer.replace('"', "'"),
        lambda: answer[:-1] + ",}",
        lambda: json.dumps({k: v for k, v in values.items() if k != "urgency"}, separators=(",", ":")),
        lambda: json.dumps(values | {"urgency": "asap"}, separators=(",", ":")),
        lambda: f"Sure! Here it is: {answer}",
    ]
    return draw.choice(ways)()


def _misspell(draw: random.Random, text: str) -> str:
    """Double one letter of a longer word: another text, but hardly."""
    words = text.split(" ")
    place = draw.choice([i for i, word in enumerate(words) if len(word) > 4 and word.isalpha()])
    letter = draw.randint(2, len(words[place]) - 2)
    words[place] = words[place][:letter] + words[place][letter - 1] + words[place][letter:]
    return " ".join(words)


def _respace(draw: random.Random, text: str) -> str:
    """Write the same text otherwise, as copies between systems do."""
    return draw.choice([text, text + " ", text.upper(), text.replace(" ", "  ", 1)])


def _mislabel(draw: random.Random, answer: str) -> str:
    values = json.loads(answer)
    values["urgency"] = draw.choice([u for u in ("low", "normal", "high") if u != values["urgency"]])
    return json.dumps(values, separators=(",", ":"))


# --- files: each writer gives back the line on which every row begins ---

Lines = list[tuple[Ticket, int]]


def _write_jsonl(path: Path, rows: list[Ticket]) -> Lines:
    path.write_text("".join((row.raw or _as_line(row)) + "\n" for row in rows), encoding="utf-8", newline="\n")
    return [(row, number) for number, row in enumerate(rows, start=1)]


def _as_line(row: Ticket) -> str:
    values = {"prompt": row.message, "completion": row.answer, "template": row.template, "channel": row.channel}
    return json.dumps(values, ensure_ascii=False)


def _write_csv(path: Path, rows: list[Ticket]) -> Lines:
    lines: Lines = []
    number = 2
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["received", "message", "triage", "template"])
        for row in rows:
            text = row.message.replace(". ", ".\n", 1)
            writer.writerow([row.channel, text, row.answer, row.template])
            lines.append((row, number))
            number += 1 + text.count("\n")
    return lines


def _write_chat(path: Path, rows: list[Ticket]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            turns = [{"role": "user", "content": row.message}, {"role": "assistant", "content": row.answer}]
            values = {"messages": turns, "template": row.template, "channel": row.channel}
            file.write(json.dumps(values, ensure_ascii=False) + "\n")


def _by_kind(files: dict[str, Lines]) -> dict[str, list[dict[str, Any]]]:
    places: dict[str, list[dict[str, Any]]] = {kind: [] for kind in PLANTS}
    for name, lines in files.items():
        for row, number in lines:
            for kind in row.kinds:
                places[kind].append({"file": name, "line": number})
    counts = Counter({kind: len(found) for kind, found in places.items()})
    if counts != Counter(PLANTS):
        raise AssertionError(f"planted {counts}, meant {PLANTS}")
    return places


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the data of the support-triage example.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "data")
    parser.add_argument("--rows", type=int, default=4000, help="clean rows in tickets.jsonl and inbox.csv together")
    parser.add_argument("--newer", type=int, default=1500, help="rows in newer.jsonl")
    arguments = parser.parse_args()
    manifest = generate(arguments.out, seed=arguments.seed, rows=arguments.rows, newer=arguments.newer)
    for name, count in manifest["rows"].items():
        print(f"{name:14} {count:6,} rows")
    print(f"{'planted.json':14} {sum(map(len, manifest['planted'].values())):6,} faults planted in the first two")


if __name__ == "__main__":
    main()
