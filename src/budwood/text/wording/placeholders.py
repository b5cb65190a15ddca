"""Answers that stand where an answer was meant to be written: "N/A", "TODO", "[your answer here]", lorem ipsum, "Answer:".

    placeholder("**[Insert your answer here]**")    # Placeholder('an unfilled slot', certain=True)
    placeholder("Not available")                    # Placeholder('a word for no answer', certain=False)
    placeholder("None")                             # None

Only a whole text is ever one; a template with slots in it ("Dear [Name], …") is a text. What the prompt itself offers as an
answer ("write N/A if it does not apply") is meant. "None", "unknown", "nothing" and a number are answers.
"""

import re
from typing import NamedTuple

from budwood.text.plain import plain
from budwood.text.wording.phrases import phrases
from budwood.text.wording.refusals import boilerplate
from budwood.text.wording.roles import grammar

LONGEST = 160
"""Characters: no placeholder but filler text is longer."""

_OUTER = "\"'()[]{}<>%$#|\\/=:;,.!?-–—_~*…•·`→@ \t\n"
_QUOTES = "\"'“”‘’`´«»"
_MARKS = re.compile(r"[\[\](){}<>.…\-–—_*#?!~\s·•=/\\|,;:]+")
_EMPTY_VALUE = re.compile(r"\[\s*\]|\{\s*\}|\(\s*\)")
_OPERATOR = re.compile(r"[\[\](){}<>*=/\\|!:~#-]{1,3}")
"""What may answer a question about code or arithmetic."""
_FACE = re.compile(r"[:;=]['-]?[)(\]\[/|\\>]+|\^_*\^|[><]?_+[><]?")
_BRACKETS = re.compile(
    r"(?:\[{1,3}|<{1,3}|\{{1,3}|\({1,2}|\$\{|%{1,2}|<!--|__|@@|##)\s*(?P<inner>[^\n]{1,110}?)\s*"
    r"(?:\]{1,3}|>{1,3}|\}{1,3}|\){1,2}|%{1,2}|/>|-->|__|@@|##)[.:!]?"
)
_FIELD = re.compile(
    r"[#>*\-<\[{(| ]*(?:(?:the|your|final|model|expected|gold|correct|ai|suggested|assistant) )?"
    r"(?:answer|response|output|completion|assistant|result|target|reply|solution|chatbot|bot|gpt|chatgpt|human|user|instruction"
    r"|input|question|prompt|system|model|label|text|content|message|summary|translation|explanation|antwort|ausgabe|réponse"
    r"|respuesta|risposta|resposta|antwoord|ответ|回答|答案|답변|q|a)s?[>\]})| ]*[:：=]+[\s>*\-]*"
)
_TEMPLATE_TAG = re.compile(
    r"(?:###? ?|<\|?/?|\[/?)(?:assistant|response|answer|output|inst|im_start|im_end|user|system|completion)s?[|>\] :]*"
)
_FILLER = re.compile(r"lorem ipsum|dolor sit amet|consectetur adipi")
_WORDS = re.compile(r"[^\W\d_]{3,}(?: [^\W\d_]+){0,5}")
_SLOT_WORDS = ("slot_words_only", "has_slot_noun", "has_slot_mark")
_OF_TAGS = re.compile(r"(?i)\b(?:html|xml|tags?|elements?|markup|svg|jsx)\b")
_NAMING = (
    r"\b(?:or|and|either|write|writes|say|says|answer|reply|respond|return|output|put|use|type"
    r"|print|enter|with|as|is|are|of|word|just|only) "
)
"""Words behind which a prompt names what may be answered."""
_SPEAKER = re.compile(r"\b(?:i|we|me|us)\b")
_REDACTED = re.compile(r"\[(?:EMAIL|PHONE|CARD|IBAN|IP|SECRET|NATIONAL_ID)\]")

FEW = 8
"""Words and marks up to which a text that names neither an answer nor its place may still be about one."""


class Placeholder(NamedTuple):
    """What kind it is, and whether the text can hardly be an answer."""

    kind: str
    certain: bool = True


def placeholder(answer: str, prompt: str = "") -> Placeholder | None:
    """Say what kind of placeholder a text is; None for a text that is none.

    Args:
        answer: the whole text.
        prompt: what it answers.
    """
    text = answer.strip()
    if len(text) > LONGEST:
        return _filler(text, prompt) if "orem" in text or "olor" in text else None
    if not text:
        return None
    if not text.strip(_QUOTES):
        return Placeholder("nothing but quotation marks", certain=False)
    text = text.strip(_QUOTES) if len(text) > 2 else text
    if _MARKS.fullmatch(text) and not _FACE.fullmatch(text) and not _EMPTY_VALUE.fullmatch(text):
        return (
            None
            if _offers(prompt, text) and len(text) < 3
            else Placeholder("nothing but marks", (len(text) > 1 and not _OPERATOR.fullmatch(text)) or text in "-…._–—")
        )
    return _kind(text, prompt) or _filler(text, prompt)


def _kind(text: str, prompt: str) -> Placeholder | None:
    known = phrases("placeholders")
    rest = plain(text)
    if _TEMPLATE_TAG.fullmatch(rest):
        return Placeholder("the name of a field")
    while match := _FIELD.match(rest):
        rest = rest[match.end() :]
        if not rest.strip(_OUTER):
            return Placeholder("the name of a field")
    words = " ".join(re.sub(r"(?<=\w)[_-](?=\w)|_", " ", rest.strip(_OUTER)).split())
    shaped = _BRACKETS.fullmatch(rest.strip(" \"'*`"))
    if shaped and not _REDACTED.fullmatch(text) and not (text[0] == "<" and _OF_TAGS.search(prompt)):
        inner = " ".join(re.sub(r"[_\-]+", " ", shaped["inner"]).strip(_OUTER).split())
        if any(known[name].search(inner) for name in ("bracketed", "slot", "means_none", "may_mean_none")):
            return Placeholder("an unfilled slot")
        if text[0] in "[<" and _WORDS.fullmatch(inner):
            return Placeholder("words in brackets and nothing else", certain=False)
    found = (_in_words(words, rest.strip()) or _in_roles(words)) if words else None
    return None if found is None or _offers(prompt, words) else found


def _in_words(words: str, rest: str) -> Placeholder | None:
    known = phrases("placeholders")
    if known["field_name"].search(words):
        return Placeholder("the name of a field")
    if known["means_none"].search(words) or known["means_none"].search(rest):
        return Placeholder("a word for no answer")
    if known["slot"].search(words) or all(known[name].search(words) for name in _SLOT_WORDS):
        return Placeholder("an unfilled slot")
    return Placeholder("a word for no answer", certain=False) if known["may_mean_none"].search(words) else None


def _in_roles(words: str) -> Placeholder | None:
    """Judge a text by what its words are about: the answer, its place or absence, who has to write it, and nothing else."""
    known = grammar("placeholder_roles")
    signs = known.roles_of(words)
    found: Placeholder | None = None
    if known.matches("whole", signs):
        if known.matches("slot", signs):
            found = Placeholder("words about an answer to come")
        elif known.matches("perhaps_slot", signs) or known.matches("alone", signs):
            found = Placeholder("words about an answer to come", certain=False)
    elif known.matches("nearly", signs) and known.matches("slot_with_names", signs):
        found = Placeholder("words about an answer to come", certain=False)
    if found is None or (not found.certain and len(signs) > FEW and not known.matches("about_answers", signs)):
        return None
    # "I cannot answer that" is an answer, if a poor one: the rule `refusal` says what becomes of it.
    return None if _SPEAKER.search(words) and boilerplate(words) else found


def _offers(prompt: str, words: str) -> bool:
    """Whether the prompt names these very words, as a choice or in a text to repeat."""
    if not words or words not in (asked := plain(prompt)):
        return False
    named = re.escape(words)
    return bool(
        re.search(
            rf"(?:{_NAMING}|[\"'(\[:,/`] ?){named}(?!\w)|(?<!\w){named}[\"'`)\]/]|(?<!\w){named},? (?:if|or|when|where)\b",
            asked,
        )
    )


def _filler(text: str, prompt: str) -> Placeholder | None:
    if not _FILLER.search(text[:120].casefold()) or phrases("placeholders")["asked_for"].search(prompt.casefold()):
        return None
    return Placeholder("filler text")
