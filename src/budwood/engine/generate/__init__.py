"""Generation: many requests, many adapters, one forward pass a step.

    generator = Generator(base, bank, max_batch=64)
    answers = generate(generator, [Request(prompt=ids, adapter=bank.slot("support"), max_new_tokens=64, stop_ids=stops)])

The room sees token ids and never text, names or HTTP: whoever calls it encodes prompts, cuts stop strings and decodes
answers. A `Generator` belongs to one thread. What a request gets depends on the request alone, not on what shares its batch:
greedy answers in float32 are those of `reference_generate`, which has neither cache nor batch, and sampling draws its
numbers from (seed, position). Only where two tokens tie to within rounding may the batch decide.

Errors: `GenerationError`.
"""

from budwood.engine.generate.generator import Generator
from budwood.engine.generate.grammar import check_schema
from budwood.engine.generate.prefix import PrefixFigures
from budwood.engine.generate.reference import reference_generate, score
from budwood.engine.generate.request import Answer, Finish, GenerationError, Request, Token
from budwood.engine.generate.together import generate

__all__ = [
    "Answer",
    "Finish",
    "GenerationError",
    "Generator",
    "PrefixFigures",
    "Request",
    "Token",
    "check_schema",
    "generate",
    "reference_generate",
    "score",
]
