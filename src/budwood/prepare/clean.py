"""The recipe's rules over some rows: each comes out as a row or as a rejected one.

A rule sees all rows that are still in before the next one begins, so that one that is faster on many (token lengths) gets
many. What comes of a row does not depend on the others.
"""

from collections.abc import Sequence

from budwood.errors import BudwoodError
from budwood.prepare.row import Drop, Rejected, Row
from budwood.prepare.rules.rule import BatchRule, Rule, TextRule, is_plain


def clean(rows: Sequence[Row | Rejected], rules: Sequence[Rule]) -> list[Row | Rejected]:
    """Apply the rules in order.

    Raises:
        BudwoodError: of the first row, in their order, at which a rule stops.
    """
    outcomes = list(rows)
    # A rule that changes a row gives another one: what is remembered here then holds no more, and is not met again.
    plain: Sequence[Row | Rejected | None] = [row if isinstance(row, Row) and _is_plain(row) else None for row in outcomes]
    none: Sequence[None] = [None] * len(outcomes)
    fault: BudwoodError | None = None
    for rule in rules:
        stop = (
            _apply_to_all(rule, outcomes)
            if isinstance(rule, BatchRule)
            else _apply(rule, outcomes, plain if isinstance(rule, TextRule) and rule.leaves_plain else none)
        )
        if stop is not None:
            place, fault = stop
            # Only a row before it can still be the first to stop a rule.
            del outcomes[place:]
    if fault is not None:
        raise fault
    return outcomes


def _is_plain(row: Row) -> bool:
    # A generator would take three times as long.
    for message in row.messages:  # noqa: SIM110
        if message.calls or message.name or not is_plain(message.content):
            return False
    return True


def _apply(
    rule: Rule, outcomes: list[Row | Rejected], left: Sequence[Row | Rejected | None]
) -> tuple[int, BudwoodError] | None:
    """Show the rule each row that is in, but for those that it is known to leave as they are."""
    for place, (row, same) in enumerate(zip(outcomes, left, strict=False)):
        if row is not same and isinstance(row, Row):
            try:
                outcome = rule.apply(row)
            except BudwoodError as fault:
                return place, fault
            if outcome is not row:
                outcomes[place] = _rejected(row, rule, outcome) if isinstance(outcome, Drop) else outcome
    return None


def _apply_to_all(rule: BatchRule, outcomes: list[Row | Rejected]) -> tuple[int, BudwoodError] | None:
    places = [place for place, row in enumerate(outcomes) if isinstance(row, Row)]
    rows = [row for row in outcomes if isinstance(row, Row)]
    for place, row, outcome in zip(places, rows, rule.apply_all(rows), strict=True):
        if isinstance(outcome, BudwoodError):
            return place, outcome
        outcomes[place] = _rejected(row, rule, outcome) if isinstance(outcome, Drop) else outcome
    return None


def _rejected(row: Row, rule: Rule, drop: Drop) -> Rejected:
    return Rejected(row.origin, drop.rule or rule.name, drop.reason, row.messages, row.tools, row.slices)
