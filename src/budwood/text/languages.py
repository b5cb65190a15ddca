"""The language of a text, by its script where that settles it and by py3langid's n-grams where not.

    language("Wo ist meine Bestellung? Ich warte seit Tagen.")     # 'de'
    language("OK, 42.")                                            # '': too little to tell
    language("注文はどこですか。一週間も待っています。")                 # 'ja', without the model

Read are the first letters, without code, addresses and quoted names of fields: enough to tell by, and what keeps it quick.
Codes are ISO 639-1. Undecided is better than wrong: short or mixed texts are "".
"""

import re
from functools import cache
from typing import Any

VERSION = 1
"""Raised when the same text would be told otherwise; what the model itself says has a version of its own."""
LETTERS = 24
"""Latin, Cyrillic or Arabic letters below which nothing is said."""
READ = 220
"""Characters that are read."""
LOOKED_AT = 4 * READ
"""Characters that noise is taken out of before: nothing behind them changes what is told."""
SURE = 0.75
"""Probability from which on the model's guess counts."""

_SCRIPTS = {
    "ko": "\u1100-\u11ff\uac00-\ud7af",
    "ja": "\u3040-\u30ff",
    "zh": "\u3400-\u9fff",
    "th": "\u0e00-\u0e7f",
    "lo": "\u0e80-\u0eff",
    "km": "\u1780-\u17ff",
    "he": "\u0590-\u05ff",
    "el": "\u0370-\u03ff",
    "hy": "\u0530-\u058f",
    "ka": "\u10a0-\u10ff",
    "gu": "\u0a80-\u0aff",
    "pa": "\u0a00-\u0a7f",
    "ta": "\u0b80-\u0bff",
    "te": "\u0c00-\u0c7f",
    "kn": "\u0c80-\u0cff",
    "ml": "\u0d00-\u0d7f",
    "si": "\u0d80-\u0dff",
    "or": "\u0b00-\u0b7f",
    "am": "\u1200-\u137f",
}
"""Scripts of one language each, nearly; Japanese before Chinese, since it uses both."""
_OF_SCRIPT = {
    "Latin": re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]"),
    "Cyrillic": re.compile("[\u0400-\u052f]"),
    "Arabic": re.compile("[\u0600-\u06ff\u0750-\u077f]"),
    "Devanagari": re.compile("[\u0900-\u097f]"),
    "CJK": re.compile("[\u3040-\u30ff\u3400-\u9fff\u1100-\u11ff\uac00-\ud7af]"),
    "Greek": re.compile("[\u0370-\u03ff]"),
    "Hebrew": re.compile("[\u0590-\u05ff]"),
    "Thai": re.compile("[\u0e00-\u0e7f]"),
}
_DECISIVE = re.compile(f"[{''.join(_SCRIPTS.values())}]")
_NOISE = re.compile(r"```[\s\S]*?(?:```|$)|`[^`\n]*`|https?://\S+|\S+@\S+|<[^>\n]{1,80}>|[\d_#*|=<>{}\[\]()/\\+-]+")
_WORD = re.compile(r"[^\W\d_]+")
NEAR: tuple[frozenset[str], ...] = (
    frozenset({"no", "nb", "nn", "da", "sv"}),
    frozenset({"id", "ms", "jv"}),
    frozenset({"hr", "sr", "bs", "sl", "mk", "bg"}),
    frozenset({"es", "gl", "pt", "ca", "an", "oc", "it", "la", "eo"}),
    frozenset({"cs", "sk"}),
    frozenset({"af", "nl", "lb", "de"}),
    frozenset({"ru", "uk", "be", "bg", "kk", "ky", "mk", "sr"}),
    frozenset({"ar", "fa", "ur", "ps", "ug", "ku"}),
    frozenset({"hi", "mr", "ne", "sa"}),
    frozenset({"bn", "as"}),
    frozenset({"xh", "zu", "rw", "sw"}),
)
"""Languages so near that a short text of one is often taken for another: they are not held against each other."""


def language(text: str) -> str:
    """Give the language's code; empty where too little is said to tell."""
    sample = _NOISE.sub(" ", text[:LOOKED_AT]) if _NOISE.search(text[:READ]) else text
    sample = sample[:READ]
    if not sample.isascii() and _DECISIVE.search(sample):
        found = _by_script(sample)
        if found:
            return found
    words = _WORD.findall(sample)
    letters = sum(map(len, words))
    if letters < LETTERS or len(words) < 4:
        return ""
    return _by_words(" ".join(words))


def script(text: str) -> str:
    """Name the script that most letters of a text's beginning are in; empty where they are few or mixed.

    East Asian scripts count as one, "CJK", and need four letters; the others need sixteen.
    """
    sample = text[:READ]
    if sample.isascii():
        counts = {"Latin": sum(map(len, _WORD.findall(_NOISE.sub(" ", sample))))}
    else:
        counts = {name: len(pattern.findall(sample)) for name, pattern in _OF_SCRIPT.items()}
    best = max(counts, key=lambda name: counts[name])
    enough = counts[best] >= (4 if best == "CJK" else 16)
    return best if enough and counts[best] * 10 >= 8 * sum(counts.values()) else ""


def are_near(first: str, second: str) -> bool:
    """Say whether two languages are the same, or too alike to be told apart in a few words."""
    return first == second or any(first in group and second in group for group in NEAR)


def known_languages() -> frozenset[str]:
    return frozenset(_identifier().labels) | _SCRIPTS.keys()


def _by_script(sample: str) -> str:
    letters = sum(map(len, _WORD.findall(sample)))
    counts = {code: len(re.findall(f"[{letters_of}]", sample)) for code, letters_of in _SCRIPTS.items()}
    best = max(counts, key=lambda code: counts[code])
    if best == "zh" and counts["ja"] * 10 > counts["zh"]:
        best = "ja"
    return best if counts[best] * 2 > letters and counts[best] >= 4 else ""


def _by_words(text: str) -> str:
    """The model's guess; near languages that share the doubt are as sure together as one alone."""
    code, probability = _identifier().classify(text)
    if SURE > probability >= SURE / 3:
        probability = sum(float(share) for other, share in _identifier().rank(text)[:6] if are_near(code, other))
    return str(code) if probability >= SURE else ""


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
