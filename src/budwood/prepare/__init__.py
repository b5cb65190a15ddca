"""Raw files → a dataset snapshot: what exactly we train on, where each row came from, what was dropped and why.

    digest = prepare(recipe, store, token_length=length, context=2048, report=silent)     # budwood.prepare.run

The way of a row, and the module of each step:

    files      bytes → records: compression, encoding, JSONL / JSON / CSV / Parquet
    shapes     record → messages, whatever the layout of the file
    read       one source at a time, with its facts; malformed lines become rejected rows
    benchmarks files that must not be trained on
    guard      what a row shares with them
    rules/     cleaning, one module a rule
    conflicts  one prompt, different answers
    dedupe     exact duplicates, conflicting answers, near-duplicates
    groups     what must lie in one split
    inherit    what an earlier snapshot fixed
    split      group → train, validation or test; rows that leak are rejected
    separate   the last four as one operation
    snapshot   the object in the store, with card and croissant

Kept + rejected = read, always. The room knows no model and no tokenizer: the length of a row comes in as a function.
Errors: `DataError` for files and rows, `RecipeError` for what the recipe asks of them; either leaves the store as it was.
"""
