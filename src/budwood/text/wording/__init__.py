"""What stock phrases a text holds: placeholders, boilerplate of assistants, claims to have opened things, half sentences.

    boilerplate("I'm sorry, but I can't assist with that.")        # 'refusal'
    claim("I've read the PDF you attached.", "Sum it up.")          # 'an opened link, attachment or file'
    placeholder("[your answer here]")                               # Placeholder('an unfilled slot', certain=True)
    cut_off("The steps are: first open the")                        # CutOff('ends in a word that needs another', True)

The phrases stand in TOML files beside the modules, a line each, so that adding one needs no program; `phrases` reads them.
Patterns there describe how people speak ("I" + not able + verb + the request), not sentences that were seen.
"""
