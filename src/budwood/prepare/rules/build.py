"""The recipe's list of rule names → the rules."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from budwood.errors import RecipeError
from budwood.prepare.benchmarks import read_benchmarks
from budwood.prepare.guard import make_guard
from budwood.prepare.row import TokenLength
from budwood.prepare.rules.contamination import Contamination
from budwood.prepare.rules.control_characters import ControlCharacters
from budwood.prepare.rules.empty_answer import EmptyAnswer
from budwood.prepare.rules.false_access import FalseAccess
from budwood.prepare.rules.forbidden import with_terms
from budwood.prepare.rules.json_answer import JsonAnswer, with_schema
from budwood.prepare.rules.label import Label
from budwood.prepare.rules.language import with_languages
from budwood.prepare.rules.length import Length
from budwood.prepare.rules.pii import Pii
from budwood.prepare.rules.prompt_echo import PromptEcho
from budwood.prepare.rules.refusal import Refusal
from budwood.prepare.rules.roles import Roles
from budwood.prepare.rules.rule import Rule
from budwood.prepare.rules.tool_turns import ToolTurns
from budwood.prepare.rules.truncated import Truncated
from budwood.prepare.rules.unicode import Unicode
from budwood.prepare.rules.user import user_rule
from budwood.prepare.rules.whitespace import Whitespace
from budwood.recipe import PrepareSection, SourceSection
from budwood.text.languages import language
from budwood.text.pii import KINDS

OF_RULES = frozenset(
    {"pii_kinds", "truncated", "false_access", "refusal", "language", "languages", "forbidden", "forbidden_file",
     "forbidden_action", "forbidden_where", "user"}
)  # fmt: skip
"""Keys that a rule's own options record: a snapshot's settings need not say them again."""


def build_rules(
    section: PrepareSection,
    *,
    folder: Path,
    token_length: TokenLength | None,
    context: int,
    sources: Sequence[SourceSection] = (),
    tell: Callable[[str], str] = language,
) -> tuple[Rule, ...]:
    """Make the rules in the recipe's order.

    Args:
        section: the recipe's [prepare].
        folder: where the schema's path starts.
        token_length: length of a row in tokens; None leaves lengths unmeasured.
        context: the base's context, which no limit may pass.
        sources: the recipe's; those that are published test files are guarded.
        tell: text → its language's code.

    Raises:
        DataError: a benchmark that cannot be read.
        RecipeError: a schema that cannot be used, max_tokens over the context, or benchmarks that contradict each other.
    """
    if section.max_tokens > context > 0:
        raise RecipeError(
            f"max_tokens = {section.max_tokens:,} is more than the base's context of {context:,} tokens.",
            where="[prepare]",
            mend=f"Set it to {context:,} or less, or 0 for the context itself.",
        )
    makers = _makers(section, folder, token_length, section.max_tokens or context, tell)
    names = list(section.rules)
    # Order comes before what is asked of answers, and after the rules that only mend texts.
    place = names.index("roles") + 1 if "roles" in names else 0
    rules = [rule for name in names[:place] for rule in makers[name]()]
    rules.append(ToolTurns())
    rules += [rule for name in names[place:] for rule in makers[name]()]
    guarded = read_benchmarks(section, sources, folder=folder)
    if guarded:
        # Redacted or cut texts would no longer be recognised.
        later = [i for i, rule in enumerate(rules) if rule.name in (Pii.name, Length.name)]
        guard = make_guard(guarded, section)
        rule = Contamination(guard, action=section.contamination, near_duplicate=section.near_duplicate)
        rules.insert(min(later, default=len(rules)), rule)
    if EmptyAnswer.name not in names:
        rules.append(EmptyAnswer(no_target=section.no_target, placeholders=False))
    return tuple(rules)


def _makers(
    section: PrepareSection, folder: Path, token_length: TokenLength | None, limit: int, tell: Callable[[str], str]
) -> Mapping[str, Callable[[], Sequence[Rule]]]:
    """How the rules of each name are made; "user" stands for as many as the recipe has."""

    def json_answer() -> Rule:
        if not section.answer_schema:
            return JsonAnswer()
        return with_schema(folder / section.answer_schema, shown=section.answer_schema)

    def forbidden() -> Rule:
        file = folder / section.forbidden_file if section.forbidden_file else None
        action, where = section.forbidden_action, section.forbidden_where
        return with_terms(section.forbidden, file, action=action, where=where, shown=section.forbidden_file)

    def pii() -> Rule:
        kinds = tuple(kind for kind in KINDS if kind.lower() in section.pii_kinds)
        return Pii(action=section.pii, group_by=section.group_by, kinds=kinds)

    def length() -> Rule:
        return Length(limit=limit, too_long=section.too_long, no_target=section.no_target, token_length=token_length)

    single: Mapping[str, Callable[[], Rule]] = {
        "unicode": Unicode,
        "control_characters": ControlCharacters,
        "whitespace": Whitespace,
        "roles": Roles,
        "empty_answer": lambda: EmptyAnswer(no_target=section.no_target, labels=section.labels),
        "prompt_echo": PromptEcho,
        "truncated": lambda: Truncated(action=section.truncated),
        "false_access": lambda: FalseAccess(action=section.false_access),
        "refusal": lambda: Refusal(action=section.refusal),
        "language": lambda: with_languages(section.languages, action=section.language, tell=tell),
        "forbidden": forbidden,
        "label": lambda: Label(labels=section.labels),
        "json_answer": json_answer,
        "pii": pii,
        "length": length,
    }

    def alone(make: Callable[[], Rule]) -> Callable[[], Sequence[Rule]]:
        return lambda: (make(),)

    own = {"user": lambda: tuple(user_rule(rule, folder) for rule in section.user)}
    return {name: alone(make) for name, make in single.items()} | own
