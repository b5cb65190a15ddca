"""A release on trial for people: how `budwood status` lists it, and `budwood canary status` in full."""

from typing import TYPE_CHECKING

import typer

from budwood.cli.output import for_terminal, print_indented, print_pairs

if TYPE_CHECKING:
    from budwood.release.canary import TrialStatus

_WORDS = {"broken": "a limit is broken", "kept": "kept", "open": "not settled yet"}


def print_trial(found: "TrialStatus", *, full: bool) -> None:
    """Print its line and how it stands; in full also why it is there, which servers lack it, what was counted, each limit."""
    trial, judgement = found.trial, found.judgement
    typer.echo(f"{'' if full else '  '}{found.line()}")
    if full:
        _print_figures(found)
    if trial.kind == "shadow":
        return
    if not full:
        print_indented(f"  limits: {_WORDS[judgement.outcome]}: {for_terminal(judgement.sentence)}")
        return
    print_indented(f"limits: {_WORDS[judgement.outcome]}")
    for finding in judgement.findings:
        print_indented(f"  {finding.outcome}: {finding.says}")


def _print_figures(found: "TrialStatus") -> None:
    if found.trial.reason:
        print_indented(f"why: {for_terminal(found.trial.reason)}")
    for report in found.reports:
        if not report.ok:
            print_indented(f"server {report.server_id}: {for_terminal(report.detail)}")
    sides = [(found.trial.kind, found.tried), ("stable", found.stable)]
    print_pairs(
        [
            (side, f"{counts.requests:,} requests, {counts.errors:,} errors, p95 {counts.quantile(0.95):.3g} s")
            for side, counts in sides
            if counts.requests
        ]
    )
