"""Walks the stages: the only room that knows their order and imports several of them.

What one stage needs of another's skill goes in as a plain function: `prepare` gets a token counter, `evaluate` gets a
function that answers. `job`: one recipe on one store · `known`: what is there already · `subjects`: who answers a suite ·
`probing`: golden probes · `stages`: the walk.

    job = Job(recipe=load_recipe(path), store=open_store(folder), report=silent, who="me")
    released = run(job, promote=True)
"""

from budwood.pipeline.job import Job, OpenBase, check_sources
from budwood.pipeline.stages import Evaluated, Released, evaluate, plan, prepare, release, run, train

__all__ = [
    "Evaluated",
    "Job",
    "OpenBase",
    "Released",
    "check_sources",
    "evaluate",
    "plan",
    "prepare",
    "release",
    "run",
    "train",
]
