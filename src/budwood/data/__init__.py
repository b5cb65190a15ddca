"""What one can ask of a finished snapshot, and what one can take out of it.

It reads what `budwood.prepare` stored and never the raw files. `rows`: the rows of a snapshot, one after the
other · `find`: which snapshot is meant · `report/`: all of it on one page.
"""
