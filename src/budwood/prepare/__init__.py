"""Raw files → a dataset snapshot: what exactly we train on, where each row came from, what was dropped and why.

    digest = prepare(recipe, store, token_length=length, context=2048, report=silent)     # budwood.prepare.run

A stream: what one row needs without the others is done piece by piece, in several processes, and leaves finished lines in
spools; what rows decide together is arithmetic on columns of numbers; then the lines are copied. The way of a row:

    files      bytes on disk → UTF-8: unpack (archives), charset (encodings)
    records    a file → pieces (whole lines, or records: JSONL, JSON, CSV, Parquet) → records
    read       one source at a time, with its facts; too many malformed lines are an error
    work       what a process does with a piece; crew: the processes; spool: where finished lines wait
      shapes     record → messages, whatever the layout of the file; convert: the row, or a rejected one
      rules/     cleaning, one module a rule; clean: all of them over a piece
      said       what it says, normalised and keyed; split: the name that it gives a group
      encode     its line in the snapshot, in two halves
    columns    what is held in memory of a row while it is decided on
    separate   all decisions as one operation
      duplicates leaks, conflicting answers, exact duplicates (same: equal keys); near: near-duplicates
      inherit    what an earlier snapshot fixed
      groups     what must lie in one split; split: group → train, validation or test; rows that leak are rejected
      verdicts   why a row goes, as numbers and in words
    finish     lines from the spools, verdicts put in, into the snapshot's files
    snapshot   figures, card and croissant

Kept + rejected = read, always. The room knows no model and no tokenizer: the length of a row comes in as a function.
Errors: `DataError` for files and rows, `RecipeError` for what the recipe asks of them; either leaves the store as it was.
"""
