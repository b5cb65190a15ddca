"""What a model calls the tensors in its files."""

from collections.abc import Container, Iterator

RENAMED = {"embed_out.weight": "lm_head.weight"}
"""Names in files that the model has another for: GPT-NeoX's head."""


def model_name(stored: str, known: Container[str], prefix: str) -> str | None:
    """Give the one of the model's own names that a name in its files means; None if it means none of them.

    Args:
        stored: the name in a file. Files of a model without a head lack the name of the body in front.
        known: the model's names, or those that are looked for.
        prefix: the body's name, transformers' `base_model_prefix`.
    """
    return next((name for name in _candidates(stored, prefix) if name in known), None)


def _candidates(stored: str, prefix: str) -> Iterator[str]:
    yield stored
    if stored in RENAMED:
        yield RENAMED[stored]
    yield f"{prefix}.{stored}"
