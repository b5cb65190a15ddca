"""How many people must approve before the recipe's alias moves: the recipe asks, the history decides."""

from typing import TYPE_CHECKING

from budwood.pipeline.job import Job

if TYPE_CHECKING:
    from budwood.release.approvals import Rule


def rule_in_force(job: Job) -> "Rule":
    """How many people must approve before the recipe's alias moves."""
    from budwood.release.approvals import rule_of

    return rule_of(job.store.history(job.recipe.name), job.recipe.name, job.recipe.release.alias)


def keep_rule(job: Job) -> None:
    """Put on record how many approvals the recipe asks for; fewer than before change nothing, and that is told."""
    from budwood.release.approvals import Rule, raise_rule

    asked = job.recipe.release
    kept = raise_rule(job.store, job.recipe.name, asked.alias, approvals=asked.approvals, own=asked.approve_own, who=job.who)
    if not Rule(asked.approvals, asked.approve_own).covers(kept):
        name = f"{job.recipe.name}@{asked.alias}"
        job.say("release", f"the recipe asks for {asked.approvals} approvals, but {name} for {kept}, since event {kept.seq}")
