"""What a snapshot can vouch for and what not: facts that no source states, known limits, personal data.

The card and the Croissant file say the same, so both take it from here. All of it follows from the manifest's body.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from budwood.prepare.rules.pii import WORDS
from budwood.text.counted import counted as rows

WANTED = {"origin": "origin", "licence": "licence", "labelling": "labelling"}
"""Keys of [[source]] that a card cannot do without → what they are called."""
_UNTOUCHED = {
    "language": "In which language a row is was not looked at.",
    "forbidden": "Toxic or unwanted wording was not looked for.",
    "refusal": "Refusals by habit were not looked for.",
    "false_access": "Answers that claim to have opened a link or a file were not looked for.",
    "truncated": "Answers that break off in the middle of a sentence were not looked for.",
    "pii": "Personal data was not looked for in kept rows.",
}
"""Rule → what may be in the rows where it was not asked for."""


def unstated(source: Mapping[str, Any]) -> list[str]:
    """List what a source ought to state and does not."""
    return [word for key, word in WANTED.items() if not str(source.get(key, "")).strip()]


def warning(sources: Sequence[Mapping[str, Any]]) -> str:
    """Say in a line which sources leave what unsaid; empty where all is stated."""
    silent = {source["path"]: words for source in sources if (words := unstated(source))}
    if not silent:
        return ""
    shown = "; ".join(f"{path}: {', '.join(words)}" for path, words in list(silent.items())[:3])
    return f"Not stated, as the data card says: {shown}{'; …' if len(silent) > 3 else ''}"


def limits(body: Mapping[str, Any]) -> Iterator[str]:
    """List what the checks behind a snapshot do not find."""
    rules = {rule["name"] for rule in body["rules"] if _at_work(rule["options"])}
    settings, alike = body["settings"], body["settings"].get("near_duplicate")
    yield "Whether an answer is right was not checked: rules judge form, not truth."
    likeness = "Jaccard" if alike is None else f"Jaccard {alike:g} and more"
    yield f"Duplicates are found by wording (word and character n-grams, {likeness}){_in_other_words(settings)}"
    yield "Conflicts are found where prompts are equal after normalisation; rephrased questions with other answers stay."
    if not settings.get("labels"):
        yield "Answers were held to no list of allowed labels."
    if not body.get("benchmarks"):
        yield "Rows were compared with no published benchmark but those among the sources."
    if not body["lengths"]:
        yield "Lengths in tokens were not measured: some rows may not fit the base's context."
    yield from (said for rule, said in _UNTOUCHED.items() if rule not in rules)
    yield "Who and what the rows stand for, and whom they leave out, is not measured."


def _in_other_words(settings: Mapping[str, Any]) -> str:
    asked = settings.get("semantic")
    if asked is None:
        return ": what says the same in other words may stand in train and in a held-out split."
    what = "prompts" if asked["on"] == "prompt" else "prompts with their answers"
    return (
        f" and by {what} whose vectors from {asked['model']} have a cosine of {asked['threshold']:g} or more: what that model "
        "does not see as the same may stand in train and in a held-out split."
    )


def _at_work(options: Mapping[str, Any]) -> bool:
    """Whether a rule looks for anything: it may be switched off, or have no terms or kinds to look for."""
    return options.get("action") != "off" and options.get("terms") != 0 and options.get("kinds") != []


def personal_data(rules: Sequence[Mapping[str, Any]]) -> str:
    """Say what was done about personal data."""
    rule = next((rule for rule in rules if rule["name"] == "pii"), None)
    if rule is not None and not rule["options"]:
        return "Kept rows were looked through for personal data; for which kinds is not on record. Rejected rows are redacted."
    if rule is None or not rule["options"]["kinds"]:
        return "Kept rows were not looked through for personal data. Rejected rows are redacted."
    kinds = [WORDS[kind][1] for kind in rule["options"]["kinds"]]
    listed = f"{', '.join(kinds[:-1])} and {kinds[-1]}" if len(kinds) > 1 else kinds[0]
    done = {"redact": "redacted", "drop": "dropped with their rows", "flag": "flagged and left in"}[rule["options"]["action"]]
    done_as = {"redact": "changed", "drop": "dropped", "flag": "flagged"}[rule["options"]["action"]]
    return (
        f"Patterns for {listed}: what they found was {done} ({rows(rule[done_as], 'row')}). Names and street addresses are not "
        "looked for, and patterns miss unusual spellings. Rejected rows are redacted in any case."
    )
