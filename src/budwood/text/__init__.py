"""Text as text: normalised forms, n-grams, hashed or not, similarity, near-duplicate search, personal data.

A leaf room that several stages share. It knows strings and nothing else: no rows, no files, no tokens, no recipe.

    normalise("  Héllo   WORLD ")                    # 'héllo world'
    similarity(first, second)                       # true Jaccard of their shingles, 0..1
    redact("mail me at ann@example.org").text       # 'mail me at [EMAIL]'
"""
