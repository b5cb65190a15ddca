"""Records in many dress: facts as sentences, as key-value lines and as JSON, and the way from one to the other.

A record is drawn from a random schema, written into text, and asked for again: whole, by field, or as a short answer.
Values are copied exactly, which is the skill that extraction needs most.
"""

from __future__ import annotations

import json
import random

from tools.seedling import slots
from tools.seedling.chat import Chat, ask
from tools.seedling.wording import say

FIELDS: dict[str, tuple[tuple[str, ...], str]] = {
    # field: (other names of it, a sentence that states it)
    "name": (
        ("customer", "full_name", "person", "client"),
        "(the (customer|person|client|user) is|the name is|this is|signed by|written by) {}",
    ),
    "order_id": (
        ("order", "order_number", "order_no", "orderId", "order id"),
        "((the|my) order (number|id) is|it is order|order number|the order in question is|regarding order) {}",
    ),
    "ticket": (
        ("ticket_id", "case", "case_number", "reference", "ref"),
        "((the|my) (ticket|case|reference) (number |)is|see (ticket|case)|filed under|reference) {}",
    ),
    "city": (
        ("town", "location", "place"),
        "(((he|she|the customer) lives|based|now) in|it happened in|the city is|delivered to) {}",
    ),
    "country": (("nation", "region"), "(the country is|sent from|it comes from|moved to) {}"),
    "amount": (("price", "total", "cost", "sum"), "(it cost|the (price|total|amount) (is|was)|we paid|the bill came to) {}"),
    "date": (("day", "order_date", "created", "when"), "(it (was|happened) on|the date is|dated|booked for|ordered on) {}"),
    "email": (("mail", "contact", "e_mail"), "(the email is|write to|please answer to|contact) {}"),
    "phone": (("telephone", "phone_number", "mobile"), "(the phone number is|call|you can ring) {}"),
    "product": (
        ("item", "article", "goods"),
        "(the (product|item) is a|(he|she|i) bought a|it is about a|the order was for a) {}",
    ),
    "colour": (("color", "shade"), "(the colour is|it should be|in) {}"),
    "size": (("dimension", "fit"), "(the size is|in size|it comes in) {}"),
    "quantity": (("count", "number", "units", "qty"), "(there are|(he|she) wants|the quantity is|a total of) {}"),
    "shop": (("store", "seller", "merchant", "vendor"), "(bought at|the shop is|sold by|it came from) {}"),
    "time": (("hour", "at"), "(at|the time is|around) {}"),
    "weekday": (("day_of_week",), "(on|it will be on a|every) {}"),
}
SLOT = {"order_id": "order", "ticket": "order", "product": "item", "quantity": "n"}


def draw_record(rng: random.Random, low: int = 1, high: int = 6) -> dict[str, str]:
    """Field (under its plain name) to value."""
    names = rng.sample(sorted(FIELDS), rng.randint(low, high))
    return {name: slots.draw(SLOT.get(name, name), rng) for name in names}


def rename(rng: random.Random, record: dict[str, str]) -> dict[str, str]:
    """Plain field names to the names that this schema uses."""
    return {name: rng.choice((name, name, *FIELDS[name][0])) for name in record}


def prose(rng: random.Random, record: dict[str, str]) -> str:
    """The record as sentences, in another order, with stray sentences between."""
    facts = list(record.items())
    rng.shuffle(facts)
    sentences = [say(FIELDS[name][1].replace("{}", "<value>"), rng, {"value": value}) for name, value in facts]
    if rng.random() < 0.4:
        sentences.insert(
            rng.randrange(len(sentences) + 1),
            rng.choice(("thank you", "please check", "this is all we know", "more later", "hello", "it rained all day")),
        )
    if rng.random() < 0.7:
        sentences = [s[0].upper() + s[1:] for s in sentences]
        return ". ".join(sentences) + "."
    return ", ".join(sentences)


def dump(rng: random.Random, pairs: dict[str, object]) -> str:
    """JSON on one line mostly, indented at times."""
    return json.dumps(pairs, ensure_ascii=False, indent=2 if rng.random() < 0.08 else None)


def to_json(rng: random.Random) -> Chat:
    """Text to a JSON object with the asked-for keys; a key that the text does not answer is null."""
    record = draw_record(rng)
    labels = rename(rng, record)
    text = prose(rng, record)
    wanted = rng.sample(list(record), rng.randint(1, len(record)))
    answer: dict[str, object] = {labels[name]: record[name] for name in wanted}
    if rng.random() < 0.4:
        absent = rng.choice([name for name in FIELDS if name not in record])
        answer[rng.choice((absent, *FIELDS[absent][0]))] = None
        keys = list(answer)
        rng.shuffle(keys)
        answer = {key: answer[key] for key in keys}
    listed = ", ".join(answer)
    instruction = rng.choice(
        (
            f"Extract {listed} as JSON.",
            f"Return a JSON object with the keys {listed}.",
            f"Reply with JSON only. Keys: {listed}. Use null for what is not given.",
            f"Fill in this form as JSON: {listed}",
            f"Read the text and give {listed} in JSON.",
        )
    )
    if rng.random() < 0.5:
        return ask(text, dump(rng, answer), instruction)
    return ask(f"{instruction}\n\n{text}" if rng.random() < 0.6 else f"{text}\n\n{instruction}", dump(rng, answer))


def question(rng: random.Random) -> Chat:
    """One field asked for in words."""
    record = draw_record(rng, 2, 7)
    labels = rename(rng, record)
    name = rng.choice(list(record))
    form = rng.choice(("What is the {}?", "{}?", "Find the {} in the text.", "Which {} is mentioned?", "Give me the {}."))
    wanted = form.format(labels[name].replace("_", " "))
    body = prose(rng, record) if rng.random() < 0.6 else lines(rng, record, labels)
    return ask(f"{body}\n{wanted}" if rng.random() < 0.7 else f"{wanted}\n{body}", record[name])


def lines(rng: random.Random, record: dict[str, str], labels: dict[str, str]) -> str:
    """The record as key-value lines or as JSON."""
    if rng.random() < 0.4:
        return dump(rng, {labels[name]: value for name, value in record.items()})
    joint = rng.choice((": ", " = ", "\t", ": "))
    return "\n".join(f"{labels[name]}{joint}{value}" for name, value in record.items())


def convert(rng: random.Random) -> Chat:
    """Key-value lines to JSON and back, or one value changed."""
    record = draw_record(rng, 2, 5)
    labels = rename(rng, record)
    pairs: dict[str, object] = {labels[name]: value for name, value in record.items()}
    plain = "\n".join(f"{key}: {value}" for key, value in pairs.items())
    choice = rng.randrange(4)
    if choice == 0:
        return ask(f"Write this as JSON:\n{plain}", dump(rng, pairs))
    if choice == 1:
        return ask(f"Write this JSON as lines:\n{json.dumps(pairs, ensure_ascii=False)}", plain)
    name = rng.choice(list(record))
    if choice == 2:
        new = slots.draw(SLOT.get(name, name), rng)
        return ask(
            f"{json.dumps(pairs, ensure_ascii=False)}\nSet {labels[name]} to {new}.",
            json.dumps(pairs | {labels[name]: new}, ensure_ascii=False),
        )
    rest = {key: value for key, value in pairs.items() if key != labels[name]}
    return ask(f"{json.dumps(pairs, ensure_ascii=False)}\nRemove {labels[name]}.", json.dumps(rest, ensure_ascii=False))


def story(rng: random.Random) -> Chat:
    """Two or three people with the same fields; the question is about one of them."""
    fields = rng.sample(("city", "product", "order_id", "amount", "weekday", "colour"), 2)
    people = rng.sample(slots.FIRST, rng.randint(2, 3))
    verbs = {
        "city": "lives in",
        "product": "bought a",
        "order_id": "has order",
        "amount": "paid",
        "weekday": "comes on",
        "colour": "chose",
    }
    asks = {
        "city": "Where does {} live?",
        "product": "What did {} buy?",
        "order_id": "Which order does {} have?",
        "amount": "How much did {} pay?",
        "weekday": "When does {} come?",
        "colour": "Which colour did {} choose?",
    }
    known = {(p, f): slots.draw(SLOT.get(f, f), rng) for p in people for f in fields}
    facts = [f"{p} {verbs[f]} {value}." for (p, f), value in known.items()]
    rng.shuffle(facts)
    person, field = rng.choice(list(known))
    return ask(f"{' '.join(facts)} {asks[field].format(person)}", known[person, field])


TASKS = (to_json, to_json, to_json, question, question, convert, story)


def task(rng: random.Random) -> Chat:
    return rng.choice(TASKS)(rng)
