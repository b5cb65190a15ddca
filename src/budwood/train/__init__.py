"""Train: snapshot and base to an adapter, or to a full model, with curves and checkpoints.

    settings = TrainSettings.of(recipe.train, method="lora", learning_rate=4e-3, seed=recipe.seed)
    run = train(recipe, store, snapshot, base_ref, settings=settings, start=None, report=silent, who="me")

`settings`: what a training depends on · `rows`, `table`: snapshot to tokens · `order`: which rows meet in which step ·
`schedule`: learning rate · `trainable`: an adapter, or all weights · `optimiser` · `validation` · `loop`, `pace`: the steps ·
`health`: when to stop · `checkpoint`: what survives a kill · `start`, `result`: what is taken from and put into the store ·
`run`: the stage. Errors: TrainingError, or those of the rooms below. The same settings and rows give the same bytes,
interrupted or not, on one machine with one number of threads.
"""
