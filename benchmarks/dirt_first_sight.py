"""How much of three kinds of dirt the rules find in wordings that were written, round by round, before the rules had met them.

    python benchmarks/dirt_first_sight.py [--missed]

Each answer is tried behind three prompts, one of them a message of the example's customers, and counts as found only if the
rule acts behind all of them: dropped, or flagged where the words leave a doubt. After each round the rules were mended with
what it had shown, so what this prints for a round is no longer first sight; what first sight was is in docs/cleaning-rules.md.
The same run on an older commit gives that commit's figures. Asserts nothing.
"""

import argparse
import random
import tomllib
from collections.abc import Mapping
from pathlib import Path

from budwood.prepare.row import Drop
from budwood.prepare.rules.empty_answer import EmptyAnswer
from budwood.prepare.rules.false_access import FalseAccess
from budwood.prepare.rules.refusal import Refusal
from budwood.prepare.rules.rule import Rule
from dirt import as_row
from dirt_planting import clean_rows

HERE = Path(__file__).resolve().parent
RULES: Mapping[str, Rule] = {
    "placeholder": EmptyAnswer(),
    "false_access": FalseAccess(action="drop"),
    "refusal": Refusal(action="drop"),
}
PROMPTS = (
    "How do I boil an egg?", "Which phone is the best one?", "Write a short poem about the sea.", "What does it say?",
    "My code fails with a KeyError. What is wrong?", "Can you check this for me?",
    "Please help, my lamp does not work and I wrote to you twice already about it; nobody answered. It was a present for my "
    "mother and I would really like to have it working before Sunday. What can be done?",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--missed", action="store_true", help="list what was not found")
    options = parser.parse_args()
    customers = [turns[0][1] for turns in clean_rows("support", 400, 3)]
    rounds = tomllib.loads((HERE / "dirt_first_sight.toml").read_text(encoding="utf-8"))
    for name, kinds in rounds.items():
        for kind, answers in kinds.items():
            done = {answer: _done(RULES[kind], answer, customers) for answer in answers}
            found, dropped = sum(map(bool, done.values())), list(done.values()).count("dropped")
            print(
                f"{name:<10}{kind:<14}{found:>5} of {len(done):<5}{found / len(done):>7.1%}, dropped {dropped / len(done):.0%}"
            )
            if options.missed:
                print(*(f"    {answer}" for answer, what in done.items() if not what), sep="\n")


def _done(rule: Rule, answer: str, customers: list[str]) -> str:
    """Say what was done behind all prompts: "dropped", "flagged" at least, or nothing."""
    draw = random.Random(answer)
    what = "dropped"
    for prompt in (draw.choice(customers), *draw.sample(PROMPTS, 2)):
        outcome = rule.apply(as_row((("user", prompt), ("assistant", answer)), 1))
        if isinstance(outcome, Drop):
            continue
        if not outcome.touched:
            return ""
        what = "flagged"
    return what


if __name__ == "__main__":
    main()
