"""Plan: which method, does it fit, how long does it take, and why; before anything is loaded.

    plan = make_plan(recipe, read_shape(folder), lengths, read_machine())
    plan.method, plan.learning_rate, plan.why, plan.warnings

`shape`: what a base is made of, from its config alone · `machine`: memory and measured speed · `lengths`: how long rows are ·
`memory`, `time`: predictions, term by term · `methods`: the choice · `rates`: default learning rates · `advice`: warnings ·
`make`: all of it together. Nothing here loads a weight.
"""
