"""Flags of answers that went wrong as answers, whatever they say."""

REPEATS = 4
LONGEST_UNIT = 40


def flags(output: str, finish: str) -> list[str]:
    """Name what is wrong: "empty", "truncated" (ran into the token limit), "repeating" (ends in one piece four times over)."""
    text = output.strip()
    found = []
    if not text:
        found.append("empty")
    if finish == "length":
        found.append("truncated")
    if _repeats(text):
        found.append("repeating")
    return found


def _repeats(text: str) -> bool:
    for length in range(2, LONGEST_UNIT + 1):
        unit = text[-length:]
        if len(text) >= length * REPEATS and text.endswith(unit * REPEATS) and len(set(unit)) > 1:
            return True
    return len(text) >= 16 and len(set(text[-16:])) == 1
