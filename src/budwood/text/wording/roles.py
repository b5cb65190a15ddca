"""Texts as rows of roles: who, does what, with what. Frames of roles find sentences that no list of phrases holds.

    access = grammar("access_roles")
    access.matches("claims", access.roles_of("i've just had a quick look at your invoice."))     # True

A lexicon gives each word the roles that it may play ("check": an act in its base form, and a look as a noun); one sign stands
for each set of roles, so a text of n words becomes n signs, in which a frame is a short regular expression. What the frames
know is grammar, what the lexicon knows are words: new wordings of known words in a known order are found at first sight, and a
new word is one entry.

A grammar is a TOML file beside this module. [roles] lists words; [verbs] lists verbs, each of which plays four roles by its
form: `look` lists "check" and "see saw seen seeing", which gives `look_base`, `look_s`, `look_ed` and `look_ing`, and `look_past` for
past forms that are no base form as well ("run" is). [macros] and
[frames] are expressions in which `<role>` is a word that may play the role, `<a|b>` one of either, `<^a>` one that may not,
`<any>` a word of the sentence. Marks are roles of their own: `<stop>` ends a sentence, `<ask>` a question, `<mark>` is a comma,
colon, dash or bracket. The text begins with a stop, so that `<stop>` also says "at the beginning"; spaces mean nothing.
"""

import re
import string
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from budwood.text.linear import LinearPattern

_TOKEN = re.compile(r"n't\b|'(?:ve|m|d|ll|re|s)\b|[^\W_]+?(?=n't\b)|[^\W_]+(?:-[^\W_]+)*|[.!?…]+|[,:;()\[\]—]|(?<= )-(?= )")
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_MARKS = {".": "stop", "!": "stop", "…": "stop", "?": "ask"} | dict.fromkeys(",:;()[]—-", "mark")
_NAME = re.compile(r"<([a-z_|^]+)>")
_SIGNS = string.ascii_letters + string.digits + "".join(map(chr, range(0xC0, 0x400)))
_OTHER, _ADVERB, _NUMBER = "other", "adverb", "number"


@dataclass(frozen=True)
class Grammar:
    """Signs of words, and what is looked for among them."""

    signs: Mapping[str, str]
    other: str
    adverb: str
    number: str
    frames: Mapping[str, LinearPattern]
    gates: tuple[LinearPattern, ...]

    def roles_of(self, spoken: str) -> str:
        """Give the signs of a text as `budwood.text.plain` gives it, a sign each word or mark."""
        known = self.signs
        return known["."] + "".join([known.get(word) or self._unknown(word) for word in _TOKEN.findall(spoken)])

    def may_match(self, folded: str) -> bool:
        """Say whether a text in lower case has a word of each gate: without one no frame can match, and that is soon seen."""
        return all(gate.search(folded) for gate in self.gates)

    def matches(self, frame: str, signs: str) -> bool:
        return self.frames[frame].search(signs)

    def _unknown(self, word: str) -> str:
        if word[0] in ".!?…":
            return self.signs["?" if "?" in word else "."]
        if word.endswith("ly") and len(word) > 4:
            return self.adverb
        return self.number if len(word) == 1 or any(map(str.isdigit, word)) else self.other


def without_code(text: str) -> str:
    """Leave out blocks of code, closed or not: nobody speaks there."""
    return _CODE.sub(" … ", text) if "```" in text else text


@cache
def grammar(file: str) -> Grammar:
    """Read a grammar; once a process."""
    content = tomllib.loads((files(__package__) / f"{file}.toml").read_text(encoding="utf-8"))
    roles_of: dict[str, set[str]] = {mark: {role} for mark, role in _MARKS.items()}
    for role, listed in content["roles"].items():
        for word in listed:
            roles_of.setdefault(word, set()).add(role)
    for role, listed in content.get("verbs", {}).items():
        for verb in listed:
            for form, word in _forms(verb):
                roles_of.setdefault(word, set()).add(f"{role}_{form}")
    sets = sorted({frozenset(roles) for roles in roles_of.values()} | {frozenset({name}) for name in (_OTHER, _ADVERB, _NUMBER)}, key=sorted)
    sign_of = dict(zip(sets, _SIGNS, strict=False))
    if len(sign_of) < len(sets):
        raise ValueError(f"{file}.toml: {len(sets)} sets of roles are more than there are signs ({len(_SIGNS)})")
    classes: dict[str, str] = {}
    for roles, sign in sign_of.items():
        for role in roles:
            classes[role] = classes.get(role, "") + sign
    macros: dict[str, str] = {}
    for name, expression in content["macros"].items():
        macros[name] = _spelt(expression, classes, macros)
    frames = {name: LinearPattern(_joined(listed, classes, macros)) for name, listed in content["frames"].items()}
    signs = {word: sign_of[frozenset(roles)] for word, roles in roles_of.items()}
    single = [sign_of[frozenset({name})] for name in (_OTHER, _ADVERB, _NUMBER)]
    gates = tuple(_gate(listed, roles_of) for listed in content.get("gates", {}).values())
    return Grammar(signs, *single, frames, gates)


def _forms(verb: str) -> Iterator[tuple[str, str]]:
    """Give a verb's forms; one that is not regular lists its own: base, past forms, gerund."""
    base, *others = verb.split()
    stem = base.removesuffix("e")
    y = base.endswith("y") and base[-2] not in "aeiou"
    yield "base", base
    yield "s", f"{base[:-1]}ies" if y else base + ("es" if base.endswith(("ch", "sh", "x", "ss")) else "s")
    for past in others[:-1] or [f"{base[:-1]}ied" if y else f"{stem}ed"]:
        yield "ed", past
        if past != base:
            yield "past", past
    yield "ing", others[-1] if others else f"{stem}ing"


def _gate(roles: Sequence[str], roles_of: Mapping[str, set[str]]) -> LinearPattern:
    words = sorted(word for word, played in roles_of.items() if played & set(roles) and word[0].isalnum())
    # The tokens of "can't" are "ca" and "n't": no boundary stands before the latter.
    negated = r"|n't(?-u:\b)" if "n't" in words else ""
    return LinearPattern(r"(?-u:\b)(?:" + "|".join(map(re.escape, words)) + r")(?-u:\b)" + negated)


def _joined(listed: Sequence[str], classes: Mapping[str, str], macros: Mapping[str, str]) -> str:
    return "(?:" + "|".join(_spelt(line, classes, macros) for line in listed) + ")"


def _spelt(expression: str, classes: Mapping[str, str], macros: Mapping[str, str]) -> str:
    def one(found: re.Match[str]) -> str:
        name = found[1]
        if name == "any":
            return f"[^{classes['stop']}{classes['ask']}]"
        if name in macros:
            return macros[name]
        names = name.lstrip("^").split("|")
        missing = [each for each in names if each not in classes]
        if missing:
            raise ValueError(f"a frame names the role {missing[0]!r}, which has no words: {expression!r}")
        inside = "".join(classes[each] for each in names)
        return f"[{'^' if name.startswith('^') else ''}{inside}]"

    return f"(?:{_NAME.sub(one, expression).replace(' ', '')})"
