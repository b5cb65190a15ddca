"""Lines that are one plain question and its answer, as most lines of many sets are: found in C, and done without making a row.

    found = find_rows(piece, section)          # None: this piece has to be read line by line
    found.pairs(), found.slices(k), ...

Plain is what every rule that mends texts leaves as it is, and what a snapshot's line holds as it stands in the source. Whether
the other rules leave it, they say themselves (`PairRule`). All other lines, and all where there is no compiler, go the way of
`records`, `convert` and `clean`; both ways give the same (tests/prepare/test_plain.py).
"""

from budwood.prepare.plain.find import PlainRows, find_rows

__all__ = ["PlainRows", "find_rows"]
