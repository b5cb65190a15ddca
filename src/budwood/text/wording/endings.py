"""How a text ends: as a text that was finished, or as one that was cut.

    cut_off("The steps are: first open the")      # CutOff('ends in the word "the"', certain=True)
    cut_off("He came. Then he went to London")    # CutOff('no mark ends the last sentence', certain=False)
    cut_off("It works.")                          # None

Certain is what no finished text ends in: a comma, an article, an open block of code or bracket. A last sentence without its
mark is likely cut where the text closes its other sentences, and is a habit of style elsewhere; lists, headings, tables,
code, signatures, formulas and single labels have no such mark and are let be. Scripts that end no sentence by a mark (Thai,
Lao, Khmer) are not judged.
"""

import re
from typing import NamedTuple

from budwood.text.wording.phrases import phrases

SENTENCE_WORDS = 6
"""A lone fragment of fewer words is a label or a title, not a sentence."""

_ENDS = frozenset(".!?。！？｡؟۔।॥։።៕⁇⁈‽⸮…")
_CLOSERS = "\"'”’»›)]}）」』】》*_~` \t\n"
_CLOSED = re.compile(rf"[{re.escape(''.join(_ENDS))}][\"'”’»›)\]）」』】》*_~`]*(?=\s|$)")
_NO_MARKS = re.compile("[\u0e00-\u0eff\u1780-\u17ff\u1000-\u109f]")
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff]")
_LIST_MARK = re.compile(r"\s*(?:\(?\d{1,3}[.)]|\(?[a-zA-Z][.)]|[-*+•–▪◦])\s*")
_LIST_ITEM = re.compile(r"\s*(?:\(?\d{1,3}[.)]|[a-zA-Z][.)]|[-*+•–▪◦])\s+\S|\s*(?:[-*+•–▪◦]|\d{1,3}[.)])\s*\*\*")
_LAYOUT = re.compile(r"\s*(?:#|\||>|```|~~~|\$|\\|//|@|https?:|www\.|<)|\t| {4}")
_CODE_END = re.compile(r"[;}>|$\\=+/]$|://\S+$|\S@\S+\.\w+$|\w\.\w{2,4}/\S*$")
_ABBREVIATION = re.compile(r"(?i)(?<!\w)(?:e\.g|i\.e|z\.b|d\.h|p\.ex|cf|mrs?|ms|dr|prof|st|approx|incl|such as|including)\.$")


class CutOff(NamedTuple):
    """Why a text looks cut, in our words, and whether a finished text could hardly look so."""

    reason: str
    certain: bool


def cut_off(text: str) -> CutOff | None:
    """Judge how a text ends; None: finished, or nothing that can be judged."""
    text = text.rstrip()
    last = text[-1:]
    # A full stop ends most texts, and no fence or list mark can then be open unless there is one.
    if last in _ENDS and "```" not in text and not (last == "." and _ends_in_a_mark(text)) and not text.endswith(("..", "…")):
        return None
    return _unfinished_block(text) or _unfinished_line(text)


def _ends_in_a_mark(text: str) -> bool:
    tail = text[-24:].rpartition("\n")[2]
    return bool(_LIST_MARK.fullmatch(tail)) or bool(_ABBREVIATION.search(tail))


def _unfinished_block(text: str) -> CutOff | None:
    fenced = "```" in text or "~~~" in text
    fences = sum(1 for line in text.splitlines() if line.lstrip().startswith(("```", "~~~"))) if fenced else 0
    if fences % 2:
        return CutOff("a block of code is left open", certain=True)
    if fences and text.endswith(("```", "~~~")):
        return None
    if text[:1] in "{[" and re.match(r"[{\[]\s*[\"{\[\d\]}]", text) and _open_brackets(text):
        return CutOff("a bracket is left open", certain=True)
    line = text.rpartition("\n")[2]
    if _LIST_MARK.fullmatch(line) and "\n" in text and len(line.strip()) > 0 and not set(line.strip()) <= set("-*_"):
        return CutOff("a list ends in an empty item", certain=True)
    if _ABBREVIATION.search(text[-24:]):
        return CutOff("ends in an abbreviation that announces more", certain=True)
    return None


def _unfinished_line(text: str) -> CutOff | None:
    line = text.rpartition("\n")[2]
    core = text.rstrip(_CLOSERS)
    if not core or _NO_MARKS.search(line):
        return None
    dots = core.endswith(("..", "…"))
    last = core.rstrip(".…")[-1:] if dots else core[-1]
    if last in _ENDS and not dots:
        return None
    if _LAYOUT.match(line) or (_CODE_END.search(line) and not dots):
        return None
    words = core.rstrip(".…").split()
    if not words or (_is_signature(text, line) and last not in ",(["):
        return None
    return _by_sign(core, line, last, words) or _by_word(text, line, words) or _by_habit(text, core, line, words, dots)


def _by_sign(core: str, line: str, last: str, words: list[str]) -> CutOff | None:
    if last in ",、،，" and not _closes(line) and len(words) > 1:
        return CutOff("ends in a comma", certain=True)
    if last in ":：" and len(words) > 2:
        return CutOff("announces something that does not follow", certain=True)
    if last in "([{（「" or (core.endswith(("(", "[")) and len(words) > 1):
        return CutOff("a bracket is left open", certain=True)
    if last in "-–—&" and len(words) > 3:
        return CutOff("ends in a dash", certain=True)
    return None


def _by_word(text: str, line: str, words: list[str]) -> CutOff | None:
    letter = len(words[-1]) == 1 and words[-1].isupper()  # "vitamin A", "plan B"
    if len(words) < 3 or letter:
        return None
    known = phrases("endings")
    word = words[-1].strip("\"'“”‘’«»()*_,").casefold()
    english = known["is_english"].search(text[:400])
    if known["needs_another_in_english" if english else "needs_another"].search(word):
        return CutOff("ends in a word that needs another", certain=words[-1].islower())
    if len(words) >= SENTENCE_WORDS and known["mostly_needs_another"].search(word):
        return CutOff("ends in a word that mostly needs another", certain=False)
    return None


def _by_habit(text: str, core: str, line: str, words: list[str], dots: bool) -> CutOff | None:
    """A last sentence without a mark, in a text that is prose and marks its sentences."""
    if dots:
        return CutOff("ends in dots", certain=False) if len(words) > SENTENCE_WORDS else None
    if _UNSPACED.search(core[-1]):
        return CutOff("no mark ends the last sentence", certain=False) if _CLOSED.search(text) or "。" in text else None
    if not (core[-1].isalnum() or core[-1] in "%°€$£'’"):
        return None
    fragment = _CLOSED.split(line)[-1].split()
    if _LIST_ITEM.match(line):
        return _by_other_items(text, line)
    if _closes(" ".join(fragment)):
        return None
    earlier = _CLOSED.search(text)
    if earlier and len(fragment) >= 1 and not _is_title(line):
        return CutOff("no mark ends the last sentence", certain=False)
    sentence = (
        len(words) >= SENTENCE_WORDS
        and words[0][:1].isupper()
        and phrases("endings")["is_a_sentence"].search(line)
        and not _is_title(line)
    )
    return CutOff("no mark ends the only sentence", certain=False) if sentence else None


def _by_other_items(text: str, line: str) -> CutOff | None:
    """Items of a list that all but the last end in a mark."""
    others = [other.rstrip() for other in text.split("\n")[:-1] if _LIST_ITEM.match(other)]
    marked = sum(bool(_CLOSED.search(other[-4:])) for other in others)
    if len(others) >= 1 and marked == len(others):
        return CutOff("no mark ends the last item of a list whose others have one", certain=False)
    return None


def _is_title(line: str) -> bool:
    words = [word for word in line.split() if word[:1].isalpha()]
    return len(words) <= 8 and all(word[0].isupper() or len(word) <= 3 for word in words) and len(line.split()) == len(words)


def _is_signature(text: str, line: str) -> bool:
    """A closing with or without a name on the last lines of a letter: no mark ends it."""
    if _closes(line) and len(line.split()) <= 6:
        return True
    lines = [other.strip() for other in text.splitlines() if other.strip()][-4:-1]
    closing = any((_closes(other) or other.endswith(",")) and len(other.split()) <= 6 for other in lines)
    return closing and len(line.split()) <= 6


def _closes(line: str) -> bool:
    return phrases("endings")["closing"].search(line.strip())


def _open_brackets(text: str) -> bool:
    """Whether JSON-like text ends inside a string, an object or a list."""
    depth, quoted, escaped = 0, False, False
    for sign in text:
        if escaped:
            escaped = False
        elif sign == "\\":
            escaped = quoted
        elif sign == '"':
            quoted = not quoted
        elif not quoted and sign in "{[":
            depth += 1
        elif not quoted and sign in "}]":
            depth -= 1
    return depth > 0 or quoted
