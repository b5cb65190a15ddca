"""Rows → the keys by which they are the same, in conflict or in one group, and the texts by which they are near.

    found = keys_of(rows, seed)
    found.keys, found.turns

A row of one ASCII question and its answer, as most are, is normalised and hashed by a C kernel where there is a compiler; for
all others, and elsewhere, `said` and `split` do it. Both give the same (tests/prepare/test_keys.py).
"""

from budwood.prepare.keys.find import Keys, keys_of, named

__all__ = ["Keys", "keys_of", "named"]
