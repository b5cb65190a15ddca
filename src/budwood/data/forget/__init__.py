"""Taking rows out of a store on request: out of every object that holds them, for good.

    wanted = make_wanted(texts=["Ann Lee"], columns=["customer=C-4711"])
    found = survey(store, wanted)                     # which rows, where, and what was trained on them: nothing is touched
    done = forget(store, wanted, who="ben", reason="request 17")

Nothing that is looked for is ever written down: the record has digests, names and figures.
"""

from budwood.data.forget.found import Survey
from budwood.data.forget.run import Forgotten, forget
from budwood.data.forget.survey import survey
from budwood.data.forget.wanted import Wanted, make_wanted

__all__ = ["Forgotten", "Survey", "Wanted", "forget", "make_wanted", "survey"]
