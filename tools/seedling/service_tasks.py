"""Tasks over customers' messages: name the topic, pick it from a list, compare, rephrase, sum up, write, fill a record.

The same knowledge (which wordings mean the same) is asked for in many ways, so that the network must hold the meaning
and cannot lean on one format. Every answer follows from how the message was drawn.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable

from tools.seedling import slots
from tools.seedling.chat import Chat, ask
from tools.seedling.service import Message, Situation, message, situations
from tools.seedling.wording import say

Style = Callable[[str], str]
STYLES: tuple[Style, ...] = (
    lambda name: name.replace(" ", "_"),
    lambda name: name.replace(" ", "_"),
    str,
    lambda name: name.replace(" ", "-"),
    str.title,
    str.capitalize,
    lambda name: name.replace(" ", "_").upper(),
)
BRANDS = slots.listed("""
Aero Nova Zen Lumo Volt Pico Terra Orbit Kova Mira Solo Juno Vela Rondo Halo Brio Nimbus Atlas Echo Luma
""")
MODELS = slots.listed("""
Brew Sound Clean Desk Air Pad Watch Buds Cam Light Chef Vac Print Router Lamp Chair Bike Scale Fan Pod
""")


def draw(rng: random.Random) -> Situation:
    return rng.choice(situations())


def one(rng: random.Random, situation: Situation) -> Message:
    """A message; a bare sentence half of the time."""
    return message(rng, situation, plain=rng.random() < 0.5)


def near(rng: random.Random, situation: Situation, count: int, same_domain: float = 0.7) -> list[Situation]:
    """Other situations, mostly of the same domain, without repetition."""
    family = [s for s in situations() if s.domain == situation.domain and s is not situation]
    found: list[Situation] = []
    while len(found) < count:
        other = rng.choice(family) if rng.random() < same_domain and len(family) > count else draw(rng)
        if other.name != situation.name and all(other.name != s.name for s in found):
            found.append(other)
    return found


def framed(rng: random.Random, instruction: str, text: str, answer: str) -> Chat:
    """The instruction as system prompt, or in the user's turn before or after the text."""
    place = rng.random()
    if place < 0.5:
        return ask(text, answer, instruction)
    if place < 0.75:
        return ask(f"{instruction}\n{text}", answer)
    return ask(f"{rng.choice(('', 'Message: ', 'Customer: '))}{text}\n{instruction}", answer)


NAME = (
    "What is this message about?",
    "Name the topic.",
    "Classify the customer's message. Answer with the intent only.",
    "You label customer queries. Reply with one label.",
    "Give the intent of the query.",
    "Which issue does the customer have?",
    "Label:",
    "Intent of this message:",
)


def name_topic(rng: random.Random) -> Chat:
    situation = draw(rng)
    style = rng.choice(STYLES)
    return framed(rng, rng.choice(NAME), one(rng, situation).text, style(situation.name))


def pick_topic(rng: random.Random) -> Chat:
    """The labels are given; the answer is one of them, or its letter."""
    situation = draw(rng)
    options = [situation, *near(rng, situation, rng.randint(1, 9))]
    rng.shuffle(options)
    style = rng.choice(STYLES)
    labels = [style(option.name) for option in options]
    answer = style(situation.name)
    if rng.random() < 0.25:
        marks = "ABCDEFGHIJ" if rng.random() < 0.5 else "123456789X"
        listed = "\n".join(f"{mark}) {label}" for mark, label in zip(marks, labels, strict=False))
        return framed(
            rng,
            f"Which fits? Answer with the letter or number.\n{listed}",
            one(rng, situation).text,
            marks[labels.index(answer)],
        )
    joined = rng.choice((", ", " | ", "\n", "; ")).join(labels)
    form = rng.choice(
        ("Choose one label: {}", "Labels: {}", "Classify into one of: {}", "Options:\n{}", "Which of these is it?\n{}")
    )
    return framed(rng, form.format(joined), one(rng, situation).text, answer)


def gist(rng: random.Random) -> Chat:
    situation = draw(rng)
    form = rng.choice(
        (
            "Sum up in one sentence.",
            "What does the customer want?",
            "Explain the message.",
            "Summary:",
            "What is the problem?",
        )
    )
    return framed(rng, form, one(rng, situation).text, situation.meaning)


def same(rng: random.Random) -> Chat:
    situation = draw(rng)
    alike = rng.random() < 0.5
    other = situation if alike else near(rng, situation, 1, 0.8)[0]
    first, second = one(rng, situation).text, one(rng, other).text
    form = rng.choice(
        (
            "Do these two messages ask the same?",
            "Same meaning? yes or no",
            "Are both about the same thing?",
            "Is B a paraphrase of A?",
        )
    )
    return framed(rng, form, f"A: {first}\nB: {second}", "yes" if alike else "no")


def paraphrase(rng: random.Random) -> Chat:
    situation = draw(rng)
    first = message(rng, situation, plain=True)
    second = message(rng, situation, plain=True, known=first.values)
    form = rng.choice(
        (
            "Say it differently.",
            "Rephrase this.",
            "Write the same in other words.",
            "Paraphrase:",
            "Another way to ask this:",
        )
    )
    return framed(rng, form, first.text, second.text)


def compose(rng: random.Random) -> Chat:
    situation = draw(rng)
    if rng.random() < 0.5:
        return ask(
            f"{rng.choice(('Write a customer message.', 'Write what the customer says:'))} {situation.meaning}",
            one(rng, situation).text,
        )
    count = rng.randint(2, 4)
    texts = [message(rng, situation, plain=True).text for _ in range(count)]
    return ask(f"Write {count} messages about: {situation.name}", "\n".join(f"- {text}" for text in texts))


def domain(rng: random.Random) -> Chat:
    situation = draw(rng)
    form = rng.choice(("Which area is this about?", "Which department should answer?", "Area:", "Route this message."))
    if rng.random() < 0.5:
        names = list(dict.fromkeys([situation.domain, *(s.domain for s in near(rng, situation, 4, 0.0))]))
        rng.shuffle(names)
        form += f" {', '.join(names)}"
    return framed(rng, form, one(rng, situation).text, situation.domain)


def examples(rng: random.Random) -> Chat:
    """Labels are taught by examples in the prompt, with names that may say nothing."""
    situation = draw(rng)
    pool = [situation, *near(rng, situation, rng.randint(1, 3))]
    marks = rng.choice(
        (list("ABCD"), ["red", "blue", "green", "white"], ["one", "two", "three", "four"], [s.name for s in pool])
    )
    shown = [
        (message(rng, s, plain=True).text, mark) for s, mark in zip(pool, marks, strict=False) for _ in range(rng.randint(1, 2))
    ]
    rng.shuffle(shown)
    lines = "\n".join(rng.choice(("{} -> {}",)).format(text, mark) for text, mark in shown)
    return ask(f"{lines}\n{message(rng, situation, plain=True).text} ->", marks[0])


def odd(rng: random.Random) -> Chat:
    situation = draw(rng)
    other = near(rng, situation, 1)[0]
    pool = [situation] * rng.randint(2, 3) + [other]
    rng.shuffle(pool)
    listed = "\n".join(f"{i}. {message(rng, s, plain=True).text}" for i, s in enumerate(pool, 1))
    return ask(f"Which one is about something else?\n{listed}", str(pool.index(other) + 1))


def tone(rng: random.Random) -> Chat:
    made = message(rng, draw(rng))
    if rng.random() < 0.5:
        answer = "neutral" if made.sentiment == "unstated" else made.sentiment
        return framed(
            rng,
            rng.choice(
                ("Sentiment: positive, negative or neutral?", "How does the customer feel? positive, negative, neutral")
            ),
            made.text,
            answer,
        )
    answer = "normal" if made.urgency == "unstated" else made.urgency
    return framed(rng, rng.choice(("Urgency: high, normal or low?", "How urgent is it? high, normal, low")), made.text, answer)


def group(rng: random.Random) -> Chat:
    """Messages of two situations, to be sorted under their names."""
    first = draw(rng)
    pool = [first, near(rng, first, 1)[0]]
    texts = [(message(rng, s, plain=True).text, s) for s in pool for _ in range(rng.randint(1, 3))]
    rng.shuffle(texts)
    listed = "\n".join(text for text, _ in texts)
    answer = "\n".join(f"{s.name}: " + " / ".join(text for text, of in texts if of is s) for s in pool)
    return ask(f"Group these messages by topic.\n{listed}", answer)


KEYS: dict[str, tuple[str, ...]] = {
    "intent": ("intent", "intent", "topic", "category", "issue", "type", "reason"),
    "area": ("area", "department", "team", "domain"),
    "product": ("product", "item", "product_name", "article"),
    "order_id": ("order_id", "order", "order_number", "orderId", "ref", "reference"),
    "urgency": ("urgency", "priority", "urgent_level"),
    "sentiment": ("sentiment", "mood", "tone", "feeling"),
    "amount": ("amount", "sum", "value"),
    "name": ("name", "customer", "customer_name"),
    "city": ("city", "place"),
    "date": ("date", "when"),
}
ORDER_LINES = (
    "(my |the |)order (number |no |id |)(is |: |)<order>",
    "(it is about|this concerns|this is for|regarding|re) (order |reference |)<order>",
    "(ref|reference|order|case|order no)(:|) <order>",
    "<order> (is the number|is my order|is the reference)",
)
PRODUCT_LINES = (
    "(it is about|i mean|this is about|i have|i bought|it concerns) (the|a|my) <item>",
    "(product|item): <item>",
)


def triage(rng: random.Random) -> Chat:
    """A message to a JSON record of many possible schemas."""
    situation = draw(rng)
    known = {"item": brand(rng)} if rng.random() < 0.35 else {}
    made = message(rng, situation, known=known)
    text, values = made.text, dict(made.values)
    for field, lines, chance in (("order", ORDER_LINES, 0.6), ("item", PRODUCT_LINES, 0.35)):
        if not mentions(text, values.get(field)) and rng.random() < chance:
            line = say(rng.choice(lines), rng, values)
            line = line[0].upper() + line[1:] if text[0].isupper() else line
            text = rng.choice((f"{text} {line}.", f"{line}. {text}", f"{text}\n{line}"))
    style = rng.choice(STYLES[:3])
    facts: dict[str, str | None] = {
        "intent": style(situation.name),
        "area": style(situation.domain),
        "urgency": "normal" if made.urgency == "unstated" else made.urgency,
        "sentiment": "neutral" if made.sentiment == "unstated" else made.sentiment,
        "order_id": values.get("order"),
        "product": values.get("item"),
        "amount": values.get("amount"),
        "name": values.get("name"),
        "city": values.get("city"),
        "date": values.get("date"),
    }
    for field in ("order_id", "product", "amount", "name", "city", "date"):
        if not mentions(text, facts[field]):
            facts[field] = None
    chosen = rng.sample(list(KEYS), rng.randint(2, 5))
    if rng.random() < 0.5:
        chosen = list(dict.fromkeys(["intent", "product", "urgency", "order_id", "sentiment", *chosen]))[: rng.randint(3, 6)]
        rng.shuffle(chosen)
    answer = {rng.choice(KEYS[field]): facts[field] for field in chosen}
    form = rng.choice(
        (
            "Return JSON with the keys {}.",
            "Extract as JSON: {}",
            "Fill in {} and answer with JSON only.",
            "You read customer messages and reply with strict JSON: {}.",
            "JSON ({}):",
        )
    )
    return framed(rng, form.format(", ".join(answer)), text, json.dumps(answer, ensure_ascii=False))


def brand(rng: random.Random) -> str:
    """An invented product name."""
    name = f"{rng.choice(BRANDS)}{rng.choice(('', ' '))}{rng.choice(MODELS)}"
    return name + rng.choice(("", f" {rng.randint(1, 900)}"))


def mentions(text: str, value: str | None) -> bool:
    return value is not None and re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text) is not None


def detail(rng: random.Random) -> Chat:
    """One detail out of a message."""
    made = message(rng, draw(rng), known={"order": slots.identifier(rng)})
    text = (
        made.text
        if mentions(made.text, made.values["order"])
        else f"{made.text} {say(rng.choice(ORDER_LINES), rng, dict(made.values))}"
    )
    return framed(
        rng,
        rng.choice(("Give the order number only.", "Which reference is mentioned?", "Order number:")),
        text,
        made.values["order"],
    )


TASKS: dict[Callable[[random.Random], Chat], int] = {
    name_topic: 22,
    pick_topic: 14,
    gist: 8,
    same: 9,
    paraphrase: 10,
    compose: 5,
    domain: 3,
    examples: 6,
    odd: 3,
    tone: 3,
    group: 3,
    triage: 12,
    detail: 2,
}


def task(rng: random.Random) -> Chat:
    return rng.choices(list(TASKS), list(TASKS.values()))[0](rng)
