"""Small skills that a language model needs before any task: copying, ordering, counting, dates, lists, simple logic.

Every function takes a generator of random numbers and gives one conversation; the answer is computed, never guessed.
"""

from __future__ import annotations

import random
from datetime import date, timedelta

from tools.seedling import slots
from tools.seedling.chat import Chat, ask

SIMPLE = slots.listed("""
apple river stone table window garden paper music winter summer doctor teacher bridge market engine button bottle
pencil mirror candle basket ladder hammer pocket jacket finger shoulder kitchen bedroom morning evening dinner
breakfast coffee sugar butter cheese bread orange lemon cherry banana carrot potato tomato onion pepper rabbit horse
tiger monkey spider dragon castle forest desert island mountain valley village city country ocean harbour ship train
plane bicycle road street
""")


def things(rng: random.Random, count: int) -> list[str]:
    """Distinct values of one sort: words, names, places, codes, numbers."""
    sort = rng.randrange(6)
    pools = (SIMPLE, slots.FIRST, slots.CITIES, slots.COUNTRIES)
    if sort < 4:
        return rng.sample(pools[sort], count)
    if sort == 4:
        return [slots.identifier(rng) for _ in range(count)]
    return [str(n) for n in rng.sample(range(1, 1000), count)]


def copy(rng: random.Random) -> Chat:
    """Repeat something exactly."""
    text = " ".join(
        rng.choice((slots.identifier(rng), *rng.sample(SIMPLE, 3), slots.person(rng))) for _ in range(rng.randint(1, 6))
    )
    question = rng.choice(
        (
            "Repeat exactly: {}",
            "Copy this: {}",
            "Say: {}",
            "Write back the following text.\n{}",
            "echo {}",
            "{}\nRepeat the line above.",
        )
    )
    return ask(question.format(text), text)


def pick(rng: random.Random) -> Chat:
    """Name the item at a place in a list, or say what follows another."""
    found = things(rng, rng.randint(3, 7))
    at = rng.randrange(len(found))
    listing = rng.choice((", ", "\n", "; ", " | ")).join(found)
    ordinal = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")[at]
    forms = [
        (f"What is the {ordinal} item?", found[at]),
        ("What is the last item?", found[-1]),
        ("How many items are there?", str(len(found))),
    ]
    if at + 1 < len(found):
        forms += [
            (f"What comes after {found[at]}?", found[at + 1]),
            (f"Which item stands before {found[at + 1]}?", found[at]),
        ]
    question, answer = rng.choice(forms)
    return ask(f"{listing}\n{question}" if rng.random() < 0.6 else f"{question}\n{listing}", answer)


def order(rng: random.Random) -> Chat:
    """Sort, reverse or join a list."""
    found = things(rng, rng.randint(2, 6))
    numeric = all(word.isdigit() for word in found)
    ascending = sorted(found, key=(lambda w: int(w)) if numeric else None)
    act, result = rng.choice(
        (
            ("Sort", ascending),
            ("Sort in alphabetical order" if not numeric else "Sort from small to large", ascending),
            ("Reverse", found[::-1]),
        )
    )
    return ask(f"{act}: {', '.join(found)}", ", ".join(result))


def listing(rng: random.Random) -> Chat:
    """Turn a list from one form into another."""
    found = things(rng, rng.randint(2, 6))
    forms = {
        "as a bullet list": "\n".join(f"- {w}" for w in found),
        "as a numbered list": "\n".join(f"{i}. {w}" for i, w in enumerate(found, 1)),
        "as a JSON list": "[" + ", ".join(f'"{w}"' for w in found) + "]",
        "separated by commas": ", ".join(found),
        "in capitals": ", ".join(w.upper() for w in found),
    }
    name = rng.choice(sorted(forms))
    given = forms[rng.choice(("as a bullet list", "separated by commas", "as a numbered list"))]
    return ask(f"Write this {name}:\n{given}", forms[name])


def arithmetic(rng: random.Random) -> Chat:
    """One small sum, bare or as a story."""
    a, b = rng.randint(1, 99), rng.randint(1, 99)
    who, thing = rng.choice(slots.FIRST), rng.choice(SIMPLE)
    big, small = max(a, b), min(a, b)
    forms = (
        (f"What is {a} + {b}?", str(a + b)),
        (f"What is {big} - {small}?", str(big - small)),
        (f"{a % 12 + 1} x {b % 12 + 1} =", str((a % 12 + 1) * (b % 12 + 1))),
        (f"{who} has {a} {thing}s and gets {b} more. How many are there now?", str(a + b)),
        (f"{who} had {big} {thing}s and gave away {small}. How many are left?", str(big - small)),
        (f"Which is larger, {a} or {b}?", str(big)),
    )
    return ask(*rng.choice(forms))


def calendar(rng: random.Random) -> Chat:
    """Dates and weekdays."""
    day = date(2024, 1, 1) + timedelta(days=rng.randrange(1200))
    week = slots.WEEKDAYS
    at = rng.randrange(7)
    month = rng.randrange(12)
    long = f"{day.day} {slots.MONTHS[day.month - 1]} {day.year}"
    forms = (
        (f"Which day comes after {week[at]}?", week[(at + 1) % 7]),
        (f"Which day comes before {week[at]}?", week[at - 1]),
        (f"Which month follows {slots.MONTHS[month]}?", slots.MONTHS[(month + 1) % 12]),
        (f"Write {long} as YYYY-MM-DD.", day.isoformat()),
        (f"Write {day.isoformat()} in words.", long),
        (f"What day is 1 day after {day.isoformat()}?", (day + timedelta(days=1)).isoformat()),
    )
    return ask(*rng.choice(forms))


def letters(rng: random.Random) -> Chat:
    """Spelling, case, first and last letters."""
    word = rng.choice(SIMPLE)
    forms = (
        (f"Spell the word {word}.", "-".join(word)),
        (f"Write {word} in capitals.", word.upper()),
        (f"What is the first letter of {word}?", word[0]),
        (f"What is the last letter of {word}?", word[-1]),
        (f"What does {'-'.join(word)} spell?", word),
    )
    return ask(*rng.choice(forms))


def lookup(rng: random.Random) -> Chat:
    """A table of pairs and a question about one of them: recall by key, and by value."""
    count = rng.randint(2, 7)
    keys, values = things(rng, count), things(rng, count)
    if len(set(values)) < count or set(keys) & set(values):
        return copy(rng)
    joint = rng.choice((": ", " = ", " -> ", " has ", " is ", " likes "))
    table = rng.choice(("\n", "; ", ". ")).join(f"{k}{joint}{v}" for k, v in zip(keys, values, strict=True))
    at = rng.randrange(count)
    question, answer = rng.choice(
        (
            (f"What goes with {keys[at]}?", values[at]),
            (f"{keys[at]}{joint.rstrip()} ?", values[at]),
            (f"Which one belongs to {values[at]}?", keys[at]),
        )
    )
    return ask(f"{table}\n{question}", answer)


def follow(rng: random.Random) -> Chat:
    """Obey an instruction given by the system."""
    word = rng.choice(SIMPLE)
    text = " ".join(rng.sample(SIMPLE, rng.randint(2, 5)))
    rules = (
        ("Answer every message in capitals only.", text, text.upper()),
        (f"End every answer with the word {word}.", f"Say {text}.", f"{text} {word}"),
        (f"Begin every answer with {word}:", f"Say {text}.", f"{word}: {text}"),
        ("Repeat what the user says.", text, text),
        ("Reply with the number of words.", text, str(len(text.split()))),
        ("Reply with the first word only.", text, text.split()[0]),
        ("Reply with the last word only.", text, text.split()[-1]),
        ("Answer with JSON that has the single key text.", text, '{"text": "' + text + '"}'),
    )
    rule, user, answer = rng.choice(rules)
    return ask(user, answer, rule)


TASKS = (copy, copy, copy, pick, order, listing, arithmetic, calendar, letters, lookup, lookup, lookup, follow)


def task(rng: random.Random) -> Chat:
    return rng.choice(TASKS)(rng)
