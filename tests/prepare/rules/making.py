"""Rows for rules to judge, and what came of them."""

from budwood.identity import Digest
from budwood.prepare.row import Drop, Message, Origin, Row, Scalar
from budwood.prepare.rules.rule import Rule


def row(*contents: str, roles: tuple[str, ...] = ("user", "assistant"), slices: dict[str, Scalar] | None = None) -> Row:
    origin = Origin("rows.jsonl", Digest("0" * 64), 7)
    messages = tuple(Message(role, text) for role, text in zip(roles, contents, strict=True))
    return Row(origin.row_id, origin, messages, slices or {}, 1.0, "auto")


def kept(rule: Rule, given: Row) -> Row:
    outcome = rule.apply(given)
    assert isinstance(outcome, Row)
    return outcome


def dropped(rule: Rule, given: Row) -> str:
    outcome = rule.apply(given)
    assert isinstance(outcome, Drop)
    return outcome.reason


def flagged(rule: Rule, given: Row) -> str:
    """The reason of a row's only flag; empty where it was left as it came."""
    outcome = kept(rule, given)
    return outcome.touched[-1].reason if outcome.touched else ""
