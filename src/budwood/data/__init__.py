"""What one can ask of a finished snapshot, and what one can take out of it.

It reads what `budwood.prepare` stored and never the raw files.

    rows       the rows of a snapshot, one after the other
    find       which snapshots there are, and the one that is meant
    why        a row's story; placing: why it lies in its split; trained: what learnt from it
    older      what bodies say that an older Budwood wrote
    diff       two snapshots compared; columns: rows as numbers; match: which is which; declared: what they say of themselves
    report/    all of it on one page
    scores/    how hard, long, different or new rows are; select: the best of them; successor: the snapshot that they make
    forget/    rows taken out for good; figures: what a snapshot says of its rows, counted again
"""
