"""Cleaning rules, one module a rule: each takes a row and gives it back, changed or not, or says why it must go.

    rule.apply(row)        # the same row; another row with one more touch; or Drop(reason)

A rule has a name (its key in `[prepare] rules`), a version that rises when it decides anything differently, and options that
go into the snapshot. `build.build_rules` makes the list that a recipe asks for. Reasons are words of ours, never of the row.
"""
