"""Near-duplicate search over many texts: signatures find candidates, true Jaccard decides.

    entries = sign_texts(texts, threshold=0.8, threads=2)           # once over all texts, in order
    found = find_repeats(entries, terms, read, parent)              # reads again the few that have to be compared
    found.twin[i], found.alike[i]                                   # the earlier text that text i repeats, or -1

A text becomes 128 minima (MinHash), of which it keeps one key of 32 bits for each band and a sketch of 128 bits; entries
that share a key are candidates. A pair at the threshold is found with probability 0.998 or more (`scheme`), a pair above it
more surely still; a hit is never an estimate. C kernels do the work where there is a compiler; numpy and Python give the same
results.
"""
