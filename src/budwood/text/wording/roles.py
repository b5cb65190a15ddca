"""Texts as rows of roles: who, does what, with what. Frames of roles find sentences that no list of phrases holds.

    access = grammar("access_roles")
    access.matches("claims", access.roles_of("i've just had a quick look at your invoice."))     # True

A lexicon gives each word the roles that it may play ("check": an act in its base form, and a look as a noun); one sign stands
for each set of roles, so a text of n words becomes n signs, in which a frame is a short regular expression. What the frames
know is grammar, what the lexicon knows are words: new wordings of known words in a known order are found at first sight, and a
new word is one entry.

A grammar is a TOML file beside this module. [roles] lists words; [verbs] lists verbs, each of which plays roles by its form:
`look` lists "check" and "see saw seen seeing", which gives `look_base`, `look_s`, `look_ed` and `look_ing`, and `look_past` for
past forms that are no base form as well ("run" is). [macros] and [frames] are expressions in which `<role>` is a word that may
play the role, `<a|b>` one of either, `<^a>` one that may not, `<any>` a word of the sentence. Marks are roles of their own:
`<stop>` ends a sentence, `<ask>` a question, `<mark>` is a comma, colon, dash or bracket. The text begins with a stop, so that
`<stop>` also says "at the beginning"; spaces mean nothing. [gates] are patterns of the text itself, a word of a role being
`<role>` there too: a text that lacks one of them is not cut into words at all.
"""

import re
import string
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from budwood.text.linear import LinearPattern
from budwood.text.plain import plain

_APART = (
    (".", " . "), (",", " , "), ("?", " ? "), ("!", " ! "), (":", " : "), (";", " ; "), ("(", " ( "), (")", " ) "),
    ("[", " ( "), ("]", " ) "), ("…", " . "), ('"', " "), ("*", " "), ("`", " "), ("'", " '"), ("n 't", " n't"),
)  # fmt: skip
"""What is put apart so that a text can be cut at its spaces: a fifth of the time that a pattern takes."""
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_MARKS = {".": "stop", "!": "stop", "?": "ask"} | dict.fromkeys(",:;()-", "mark")
_REMEMBERED = 50_000
"""Words outside the lexicon whose signs a process keeps."""
_NAME = re.compile(r"<([a-z_|^]+)>")
_SIGNS = string.ascii_letters + string.digits + "".join(map(chr, range(0xC0, 0x400)))
_OTHER, _ADVERB, _NUMBER = "other", "adverb", "number"


class Signs(dict[str, str]):
    """Word → sign; a word that is not listed has the sign of what it looks like."""

    def __init__(self, listed: Mapping[str, str], *, other: str, adverb: str, number: str) -> None:
        super().__init__(listed)
        self._other, self._adverb, self._number = other, adverb, number

    def __missing__(self, word: str) -> str:
        sign = self._look(word)
        if len(self) < _REMEMBERED:
            self[word] = sign
        return sign

    def _look(self, word: str) -> str:
        bare = word.strip("'\"#$%&/<>@\\^_{|}~+=“”«»„*-")
        if bare != word:
            return self[bare] if bare else ""
        if len(word) > 4 and word.endswith("ly"):
            return self._adverb
        return self._number if len(word) == 1 or any(map(str.isdigit, word)) else self._other


@dataclass(frozen=True)
class Grammar:
    """Signs of words, and what is looked for among them."""

    signs: Signs
    frames: Mapping[str, LinearPattern]
    gates: tuple[LinearPattern, ...]

    def roles_of(self, text: str) -> str:
        """Give the signs of a text, a sign each word or mark, and one that ends a sentence before them."""
        text = text.lower() if text.isascii() else plain(text)
        for mark, apart in _APART:
            text = text.replace(mark, apart)
        return self.signs["."] + "".join(map(self.signs.__getitem__, text.split()))

    def may_match(self, folded: str) -> bool:
        """Say whether a text in lower case has a word of each gate: without one no frame can match, and that is soon seen."""
        return all(gate.search(folded) for gate in self.gates)

    def matches(self, frame: str, signs: str) -> bool:
        return self.frames[frame].search(signs)


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
    sets = sorted(
        {frozenset(roles) for roles in roles_of.values()} | {frozenset({name}) for name in (_OTHER, _ADVERB, _NUMBER)},
        key=sorted,
    )
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
    other, adverb, number = (sign_of[frozenset({name})] for name in (_OTHER, _ADVERB, _NUMBER))
    signs = Signs(
        {word: sign_of[frozenset(roles)] for word, roles in roles_of.items()}, other=other, adverb=adverb, number=number
    )
    gates = tuple(_gate(listed, roles_of) for listed in content.get("gates", {}).values())
    return Grammar(signs, frames, gates)


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


def _gate(lines: Sequence[str], roles_of: Mapping[str, set[str]]) -> LinearPattern:
    """Make a pattern of lines in which `<role>` stands for the words of the role that are one token."""

    def words(found: re.Match[str]) -> str:
        named = set(found[1].split("|"))
        listed = sorted(word for word, played in roles_of.items() if played & named and word[0].isalnum() and word != "n't")
        return r"(?-u:\b)(?:" + "|".join(map(re.escape, listed)) + r")(?-u:\b)"

    return LinearPattern("|".join(f"(?:{_NAME.sub(words, line)})" for line in lines))


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
