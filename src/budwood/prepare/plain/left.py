"""Which plain rows every rule leaves as they are."""

from collections.abc import Sequence

from budwood.prepare.rules.rule import MeasuringRule, Pair, PairRule, Rule, TextRule


class Leaving:
    """A recipe's rules, as far as they can tell from texts that they leave a row as it is."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        others = [rule for rule in rules if not (isinstance(rule, TextRule) and rule.leaves_plain)]
        self._counting = [rule for rule in others if isinstance(rule, MeasuringRule) and rule.measures]
        others = [rule for rule in others if not isinstance(rule, MeasuringRule)]
        self._telling = [rule for rule in others if isinstance(rule, PairRule)]
        self.can_tell = len(self._telling) == len(others)
        """Whether each of them can; where one cannot, no row is left."""

    def left(self, pairs: Sequence[Pair]) -> tuple[list[int], list[int | None]]:
        """Give the places of those that all rules leave, and their tokens, None where nothing counts them."""
        places = list(range(len(pairs)))
        for rule in self._telling:
            leaves = rule.leaves
            places = [place for place in places if leaves(pairs[place])]
        if not self._counting:
            return places, [None] * len(places)
        (counting,) = self._counting
        tokens = counting.measure([pairs[place] for place in places])
        counted = [(place, count) for place, count in zip(places, tokens, strict=True) if count is not None]
        return [place for place, _ in counted], [count for _, count in counted]
