"""Overlap of many texts with a few fixed ones: which of the fixed texts stand, whole or in part, in a text that comes by.

    index = index_texts(texts)                      # once, over the fixed texts
    index.shared((text, …))                         # [Shared(text=12, covered=31, countable=40, run=True)]
    index_alike(short_texts, 0.8).find(text)        # [Alike(text=3, similarity=0.87)], by characters, exact

Texts are normalised (`budwood.text.normalise`). Nothing is an estimate but for the 64 bits of a hash. A C kernel finds the
n-grams where there is a compiler; Python gives the same results.
"""
