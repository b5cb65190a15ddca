"""Scores of a snapshot's train rows, for a person or for `budwood.data.select`.

`ifd`: instruction-following difficulty by a base · `length`: characters of the answers · `diversity`: what a row adds to those
taken before it · `novelty`: how unlike the earlier rows it is · `random`: a keyed hash, to compare the others with.

    scored = score(store, snapshot, by="ifd", judge=Judge.open("seedling", start=Path(".")))
    scored.quantiles(), scored.unscored

Errors: `DataError`, and `BaseError` of the base that judges.
"""

from budwood.data.scores.ifd import Judge
from budwood.data.scores.score import NAMES, Score, score
from budwood.data.scores.scored import Place, Scored

__all__ = ["NAMES", "Judge", "Place", "Score", "Scored", "score"]
