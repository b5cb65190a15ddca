"""Rows with one known fault each, and rows without any, for dirt.py.

Two corpora of other wording and layout: `support` (the example's messages, answered by JSON and by phrases of its own) and
`office` (questions of every day, in prose), and `other`, phrases that were written last and only then tried. Numbers are
published examples of their country, or drawn here with a check of their own.
"""

import importlib.util
import json
import random
import string
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
EXAMPLE = HERE.parent / "examples" / "support-triage"
Turns = tuple[tuple[str, str], ...]


class Planted(NamedTuple):
    """A row with a fault.

    Args:
        kind: what was planted.
        turns: role and text.
        gone: a text that must not be in the row after a rule has changed it; empty where none is changed.
    """

    kind: str
    turns: Turns
    gone: str = ""


IDS = (
    "social security number 536-22-8910", "AB 12 34 56 C", "my NINO is AB123456C", "steuer-id 86095742719",
    "2 55 08 14 168 025 38", "12345678Z", "X1234567L", "RSSMRA85T10A562S", "BSN 111222333", "PESEL 44051401359",
    "529.982.247-25", "Aadhaar 2341 2341 2346", "756.9217.0769.85", "85.07.30-033.28", "811218-9876", "131052-308T",
    "11010519491231002X", "kimlik no 10000000146", "SIN 046 454 286", "TFN 123 456 782", "passport number X1234567",
    "SSN: 536 22 8910",
)  # fmt: skip
IBANS = (
    "DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "FR14 2004 1010 0505 0001 3M02 606",
    "NL91ABNA0417164300", "ES91 2100 0418 4502 0005 1332", "CH93 0076 2011 6238 5295 7",
    "it60x0542811101000000123456",
)  # fmt: skip
PHONES = (
    "+44 20 7946 0{d3}", "+1 (415) 555-2{d3}", "555-123-4{d3}", "(555) 123-4{d3}", "+49 171 2345{d3}",
    "01 23 45 67 8{d1}", "0171/2345{d3}", "+33 6 12 34 5{d1} 78", "call me: 07700900{d3}", "0049 30 1234{d3}",
    "+91 98765 43{d3}",
)  # fmt: skip


def wording() -> dict[str, Any]:
    return tomllib.loads((HERE / "dirt_wording.toml").read_text(encoding="utf-8"))


def clean_rows(corpus: str, count: int, seed: int) -> list[Turns]:
    """Rows in which nothing is wrong."""
    draw = random.Random(seed)
    if corpus == "support":
        with tempfile.TemporaryDirectory() as folder:
            _example().generate(Path(folder), seed=seed, rows=1200, newer=count)
            lines = (Path(folder) / "newer.jsonl").read_text(encoding="utf-8").splitlines()
        return [tuple((turn["role"], turn["content"]) for turn in json.loads(line)["messages"]) for line in lines]
    prose = [pair for listed in wording()["clean"].values() for pair in listed]
    return [_clean(draw, prose) for _ in range(count)]


def dirty_rows(corpus: str, count: int, seed: int) -> Iterator[Planted]:
    """`count` rows of every kind; each kind runs through all its phrasings first."""
    draw = random.Random(seed)
    said, prose = wording(), wording()["clean"]
    for kind in ("placeholder", "false_access", "refusal"):
        phrases = list(said[corpus][kind])
        draw.shuffle(phrases)
        for number in range(count):
            phrase = phrases[number % len(phrases)]
            answer = phrase if number < len(phrases) else _dress(draw, phrase, alone=kind == "placeholder")
            yield Planted(kind, (("user", _asked(draw, corpus, kind)), ("assistant", answer)))
    for kind, plant in _PLANTS.items():
        for _ in range(count):
            yield plant(draw, kind, prose, said[corpus])


# --- clean ---


def _clean(draw: random.Random, prose: list[list[str]]) -> Turns:
    """One pair of the list with a number or name of its own, so that rows differ."""
    prompt, answer = draw.choice(prose)
    extra = draw.choice(["", "", " Please be brief.", f" I ask for the {draw.randint(2, 9)}th time.", " Thanks!"])
    return (("user", prompt + (extra if prompt.isascii() else "")), ("assistant", answer))


def _asked(draw: random.Random, corpus: str, kind: str) -> str:
    if kind == "false_access":
        return draw.choice(
            ["Can you check https://example.com/a for me?", "What do you make of the attached file?", "See the screenshot.",
             "And the photo?", "Please look at the link.", "Is it right?", "What does it say?"]
        )  # fmt: skip
    if corpus == "support":
        return draw.choice(
            ["Where is my order A1-20345?", "I want a refund for the kettle.", "The lamp came broken. What now?"]
        )
    return draw.choice(
        ["How do I boil an egg?", "Write a short poem about the sea.", "Which phone is the best one?", "Sum up the rules."]
    )


def _dress(draw: random.Random, phrase: str, *, alone: bool) -> str:
    """The same words in other clothes: quotes, emphasis, case, and for what is a sentence, a sentence around it."""
    ways: list[Callable[[str], str]] = [
        lambda text: text.replace("'", "’"), lambda text: f"**{text}**", lambda text: f" {text}\n", lambda text: text.upper(),
        lambda text: text.lower(), lambda text: f'"{text}"', lambda text: text.rstrip(".") + "!", lambda text: f"*{text}*",
    ]  # fmt: skip
    if not alone:
        ways += [
            lambda text: f"{text} Let me know if there is anything else.",
            lambda text: f"Hello! {text}",
            lambda text: f"Hi Anna, {text}",
            lambda text: f"Thank you for your message. {text}",
            lambda text: f"{text}\n\nIn short: all is well.",
            lambda text: f"> {text}",
        ]
    return draw.choice(ways)(phrase)


# --- one fault each ---

Prose = dict[str, list[list[str]]]


def _pair(draw: random.Random, prose: Prose, languages: str = "en") -> tuple[str, str]:
    prompt, answer = draw.choice(prose[draw.choice(languages.split())])
    return prompt, answer


def _turns(prompt: str, answer: str) -> Turns:
    return (("user", prompt), ("assistant", answer))


def _empty(draw: random.Random, kind: str, prose: Prose, said: Any) -> Planted:
    return Planted(kind, _turns(_pair(draw, prose)[0], draw.choice(["", " ", "\n\n", "\u200b", "\u00a0", "\t \n"])))


def _echo(draw: random.Random, kind: str, prose: Prose, said: Any) -> Planted:
    prompt = draw.choice([pair[0] for pair in prose["en"] if len(pair[0]) > 24])
    ways: list[Callable[[str], str]] = [
        str,
        str.upper,
        str.lower,
        lambda t: f'"{t}"',
        lambda t: f"Question: {t}",
        lambda t: f"{t} {t}",
        lambda t: t.rstrip("?.") + ".",
        lambda t: f"{t}\n\nAnswer:",
        lambda t: f"You asked: {t}",
        lambda t: t.replace(" ", "  "),
        lambda t: t[:5] + t[4:],
        lambda t: f"User: {t}",
    ]
    return Planted(kind, _turns(prompt, draw.choice(ways)(prompt)))


def _truncated(draw: random.Random, kind: str, prose: Prose, said: Any) -> Planted:
    """Cut somewhere behind the first sentence, never where a sentence ends."""
    while True:
        prompt, answer = _pair(draw, prose, "en en en de fr es")
        first = answer.find(". ") + 2
        if first < 2 or len(answer) - first < 30 or "\n" in answer:
            continue
        cut = answer[: draw.randint(first + 3, len(answer) - 3)].rstrip()
        if cut[-1] not in ".!?":
            return Planted(kind, _turns(prompt, cut))


def _mismatch(draw: random.Random, kind: str, prose: Prose, said: Any) -> Planted:
    first, second = draw.sample(["en", "de", "ru", "fr", "zh", "ja"], 2)
    prompt = draw.choice(
        [pair[0] for pair in prose[first] if len(pair[0]) > 30 or first in ("zh", "ja")] or [prose[first][0][0]]
    )
    answers = [answer for _, answer in prose[second] if len(answer) > 60 or second in ("zh", "ja")]
    return Planted(kind, _turns(f"{prompt} {prompt}" if len(prompt) < 60 else prompt, draw.choice(answers)))


def _foreign(draw: random.Random, kind: str, prose: Prose, said: Any) -> Planted:
    return Planted(kind, _turns(*_pair(draw, prose, "ru zh ja")))


def _forbidden(draw: random.Random, kind: str, prose: Prose, said: Any) -> Planted:
    prompt, answer = _pair(draw, prose)
    return Planted(kind, _turns(prompt, f"{answer} You {draw.choice(said['forbidden'])}, really."))


def _mojibake(draw: random.Random, kind: str, prose: Prose, said: Any) -> Planted:
    prompt, answer = _pair(draw, prose, "de fr es")
    name = draw.choice(["Zoë", "José", "Jürgen", "Chloé", "Åsa", "François"])
    text = f"{answer} It’s what {name} said – “really”…"
    broken = text.encode("utf-8").decode(draw.choice(["cp1252", "latin-1"]), "replace").replace("\ufffd", "")
    return Planted(kind, _turns(prompt, broken), gone="Ã")


def _control(draw: random.Random, kind: str, prose: Prose, said: Any) -> Planted:
    prompt, answer = _pair(draw, prose)
    sign = draw.choice("\x00\x07\x1b\u200b\ufeff\u202e\u00ad\u2060")
    place = draw.randint(1, len(answer) - 1)
    return Planted(kind, _turns(prompt, answer[:place] + sign + answer[place:]), gone=sign)


def _personal(draw: random.Random, kind: str, prose: Prose, said: Any) -> Planted:
    number = _NUMBERS[kind](draw)
    prompt, answer = _pair(draw, prose)
    sentence = draw.choice(["It is {n}.", "Please note {n} for me.", "({n})", "Write it down: {n}, thanks.", "{n}"]).format(
        n=number
    )
    bare = (
        number.rsplit(": ", 1)[-1]
        if kind == "phone"
        else number.split(" ", 3)[-1]
        if kind == "national_id" and ":" in number
        else number
    )
    in_prompt = draw.random() < 0.5
    return Planted(
        kind, _turns(f"{prompt} {sentence}", answer) if in_prompt else _turns(prompt, f"{answer} {sentence}"), gone=bare
    )


def _broken_json(draw: random.Random, kind: str, prose: Prose, said: Any) -> Planted:
    answer = json.dumps({"intent": draw.choice(["refund", "repair"]), "order": draw.randint(100, 999)})
    ways = [
        answer[:-1],
        answer.replace('"', "'"),
        f"Sure: {answer}",
        answer.replace("order", "Order"),
        answer[:-1] + ",}",
        f"```json\n{answer}\n```",
    ]
    return Planted(kind, _turns(_pair(draw, prose)[0], draw.choice(ways)))


def _label(draw: random.Random, kind: str, prose: Prose, said: Any) -> Planted:
    return Planted(
        kind, _turns(_pair(draw, prose)[0], draw.choice(["refunds", "other", "re fund!", "Label: refund", "refund, repair"]))
    )


def _roles(draw: random.Random, kind: str, prose: Prose, said: Any) -> Planted:
    prompt, answer = _pair(draw, prose)
    user, assistant = ("user", prompt), ("assistant", answer)
    ways: list[Turns] = [
        (assistant, user),
        (user, user, assistant),
        (user, ("system", "x"), assistant),
        (user, ("bot", answer)),
        (("user", ""), assistant),
    ]
    return Planted(kind, draw.choice(ways))


def _email(draw: random.Random) -> str:
    name = draw.choice(["ann", "j.doe", "o'neil_7", "maria+news", "x-y"]).replace("'", "")
    return f"{name}{draw.randint(1, 99)}@{draw.choice(['example.org', 'mail.example.co.uk', 'firma-gmbh.de', 'EXAMPLE.COM'])}"


def _phone(draw: random.Random) -> str:
    digits = f"{draw.randint(0, 999):03}"
    return draw.choice(PHONES).format(d3=digits, d1=digits[0])


def _card(draw: random.Random) -> str:
    start, length = draw.choice([("4", 16), ("51", 16), ("37", 15), ("6011", 16)])
    body = start + "".join(draw.choices(string.digits, k=length - len(start) - 1))
    doubled = [sum(divmod(2 * int(d), 10)) if place % 2 == 0 else int(d) for place, d in enumerate(reversed(body))]
    number = body + str(-sum(doubled) % 10)
    parted = (
        " ".join(number[i : i + 4] for i in range(0, 16, 4)) if length == 16 else f"{number[:4]} {number[4:10]} {number[10:]}"
    )
    return draw.choice([number, parted, parted.replace(" ", "-")])


def _ip(draw: random.Random) -> str:
    four = ".".join(str(draw.randint(1, 254)) for _ in range(4))
    six = ":".join(f"{draw.randint(4096, 65535):x}" for _ in range(8))
    return draw.choice([four, four, six, f"2001:db8::{draw.randint(1, 9999):x}:{draw.randint(1, 9999):x}"])


def _secret(draw: random.Random) -> str:
    def some(count: int, signs: str = string.ascii_letters + string.digits) -> str:
        return "".join(draw.choices(signs, k=count - 1)) + draw.choice(string.digits)

    upper = string.ascii_uppercase + string.digits
    return draw.choice(
        [
            f"AKIA{some(16, upper)}",
            f"ghp_{some(36)}",
            f"xoxb-{some(12)}-{some(24)}",
            f"AIza{some(35)}",
            f"sk_live_{some(24)}",
            f"sk-proj-{some(40)}",
            f"sk-ant-api03-{some(60)}",
            f"eyJ{some(20)}.eyJ{some(30)}.{some(20)}",
            f"glpat-{some(20)}",
            f"hf_{some(34)}",
            f"npm_{some(36)}",
            f"-----BEGIN RSA PRIVATE KEY-----\n{some(64)}\n{some(64)}\n-----END RSA PRIVATE KEY-----",
            f"password = {some(12)}",
            f'api_key: "{some(20)}"',
            f"postgres://admin:{some(10)}@db.example.org/x",
            f"SG.{some(22)}.{some(43)}",
            f"Authorization: Bearer {some(32)}",
            f"DB_PASSWORD={some(10)}",
            f"AWS_SECRET_ACCESS_KEY={some(40)}",
            f"the password is {some(9)}",
            f"https://hooks.slack.com/services/T{some(8, upper)}/B{some(8, upper)}/{some(24)}",
        ]
    )


_NUMBERS: dict[str, Callable[[random.Random], str]] = {
    "email": _email,
    "phone": _phone,
    "card": _card,
    "iban": lambda draw: draw.choice(IBANS),
    "national_id": lambda draw: draw.choice(IDS),
    "ip": _ip,
    "secret": _secret,
}
_PLANTS: dict[str, Callable[[random.Random, str, Prose, Any], Planted]] = {
    "empty": _empty,
    "prompt_echo": _echo,
    "truncated": _truncated,
    "language_mismatch": _mismatch,
    "language_not_allowed": _foreign,
    "forbidden": _forbidden,
    "mojibake": _mojibake,
    "control_characters": _control,
    "broken_json": _broken_json,
    "label": _label,
    "roles": _roles,
    **dict.fromkeys(_NUMBERS, _personal),
}


def _example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("support_triage_generate", EXAMPLE / "generate.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(EXAMPLE / "generate.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module
