"""The report as HTML.

`render` puts it together from `reading` (sources, rules), `examples` (rows before and after, dropped, flagged), `alike`
(duplicates, conflicts), `shape` (lengths, balance) and `mirrors` (samples compared).
"""
