"""Output that must satisfy a JSON Schema: xgrammar's matchers, one a request, behind two small classes.

Schemas come from strangers, and the compiler behind them is native code that recurses: `check_schema` refuses what is nested
too deeply, refers to itself, or matches regular expressions, before anything is compiled.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from budwood.engine.generate.request import GenerationError

MAX_SCHEMA_CHARACTERS = 65_536
MAX_SCHEMA_DEPTH = 24
MAX_SCHEMA_NODES = 2_000
MAX_REPEAT = 1_000
CACHE_BYTES = 64 << 20
MAX_WHITESPACE = 2
"""Most blanks in a row between two JSON tokens: a weak model must not be able to spend its whole answer on them."""
_NAME_MAPS = frozenset({"properties", "$defs", "definitions"})
_REPEATS = frozenset({"minItems", "maxItems", "minLength", "maxLength"})
_BOUNDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_NOTES = frozenset({"title", "description", "default", "examples", "$comment", "$schema", "$id", "const", "enum"})
_PARTS = frozenset({"type", "required", "additionalProperties", "items", "prefixItems", "anyOf", "$ref", "format"})
_KNOWN = _NAME_MAPS | _REPEATS | _BOUNDS | _NOTES | _PARTS
_REFERENCE = re.compile(r"#/(?:\$defs|definitions)/[^/~%]+")
"""Definitions are the one place that is looked through in full; annotations, for one, are not."""
_FORMATS = frozenset({"date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"})


def check_schema(text: str) -> None:
    """Refuse a JSON Schema that could take unbounded time or memory, or that we would not enforce.

    Raises:
        GenerationError: not JSON, not an object, too long, too deep, too many parts, recursive, a reference to anything but
            a definition of its own, or a key that is not enforced or holds something else than it should.
    """
    if len(text) > MAX_SCHEMA_CHARACTERS:
        raise _refusal(f"The schema has {len(text):,} characters; at most {MAX_SCHEMA_CHARACTERS:,} are read")
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refusal(f"The schema is not JSON: {error}") from None
    if not isinstance(schema, dict):
        raise _refusal("The schema is not a JSON object")
    for count, (depth, node) in enumerate(_walk(schema)):
        if depth > MAX_SCHEMA_DEPTH:
            raise _refusal(f"The schema is nested more than {MAX_SCHEMA_DEPTH} deep")
        if count >= MAX_SCHEMA_NODES:
            raise _refusal(f"The schema has more than {MAX_SCHEMA_NODES:,} parts")
        _check_node(node)
    _check_references(schema)


class Grammars:
    """Compiles schemas for one tokenizer and keeps the compiled ones, up to a size. May be used from several threads.

    Args:
        tokenizer: the base's.
        vocab: width of the logits, which may exceed the tokenizer's own.
        stop_ids: the tokenizer's end tokens, which a grammar never writes as text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, vocab: int, stop_ids: Sequence[int] = ()) -> None:
        import xgrammar

        info = xgrammar.TokenizerInfo.from_huggingface(
            tokenizer, vocab_size=vocab, stop_token_ids=sorted(set(stop_ids)) or None
        )
        # One thread: the other core belongs to the engine.
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_limit_bytes=CACHE_BYTES)
        self._writable = _writable(info.decoded_vocab, vocab)

    def compile(self, schema: str) -> Any:
        """Compile a checked schema, or find it compiled.

        Raises:
            GenerationError: the compiler does not know something in it.
        """
        check_schema(schema)
        try:
            return self._compiler.compile_json_schema(schema, max_whitespace_cnt=MAX_WHITESPACE)
        except (RuntimeError, ValueError) as error:
            first = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
            raise _refusal(f"The schema cannot be compiled: {first[:200]}") from None

    def matcher(self, schema: str, stop_ids: Sequence[int]) -> "Matcher":
        """Begin one answer. Without stop ids it ends by itself where the JSON is complete."""
        import xgrammar

        return Matcher(
            xgrammar.GrammarMatcher(
                self.compile(schema),
                override_stop_tokens=sorted(set(stop_ids)) or None,
                terminate_without_stop_token=not stop_ids,
            )
        )

    def mask(self, logits: Tensor, matchers: "Mapping[int, Matcher]") -> Tensor:
        """Copy `logits` (n, V) with every token that a row's matcher forbids at -inf."""
        import xgrammar

        rows = sorted(matchers)
        masked = logits.clone()
        bitmask = xgrammar.allocate_token_bitmask(logits.shape[0], logits.shape[1])
        for row in rows:
            matchers[row].fill(bitmask, row)
        bitmask &= self._writable
        xgrammar.apply_token_bitmask_inplace(masked, bitmask.to(logits.device), indices=rows)
        return masked


class Matcher:
    """Where one answer stands in its grammar."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def fill(self, bitmask: Tensor, row: int) -> None:
        """Write the allowed next tokens into one row of an xgrammar bitmask."""
        self._matcher.fill_next_token_bitmask(bitmask, row)

    def accept(self, token: int) -> bool:
        """Go on by one token; False if the grammar does not allow it."""
        return bool(self._matcher.accept_token(token))

    @property
    def complete(self) -> bool:
        return bool(self._matcher.is_terminated())


def _writable(decoded: Sequence[bytes], vocab: int) -> Tensor:
    """Bitmask, (ceil(V / 32),) int32, of the tokens that may be in JSON at all.

    xgrammar 0.2 lets raw control characters into strings that have a maxLength; JSON forbids them there. Between the parts
    of a value only the line break is ever needed, and that it does keep out of strings.
    """
    allowed = torch.ones(-(-vocab // 32) * 32, dtype=torch.int64)
    for token, text in enumerate(decoded[:vocab]):
        if any(byte < 0x20 and byte != 0x0A for byte in text):
            allowed[token] = 0
    words = (allowed.view(-1, 32) << torch.arange(32)).sum(-1)
    # To the signed word with the same bits.
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32)


def _refusal(what: str) -> GenerationError:
    return GenerationError(f"{what}.", where="json_schema", mend="Simplify the schema; check what it leaves out afterwards.")


def _walk(schema: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield every subschema with its depth, without recursion: the input is a stranger's."""
    stack: list[tuple[int, Any]] = [(0, schema)]
    while stack:
        depth, node = stack.pop()
        if isinstance(node, list):
            stack += [(depth + 1, part) for part in node]
        elif isinstance(node, dict):
            yield depth, node
            for key, part in node.items():
                if key in _NAME_MAPS and isinstance(part, dict):
                    stack += [(depth + 1, value) for value in part.values()]
                elif key not in _NOTES:
                    stack.append((depth + 1, part))


def _check_node(node: dict[str, Any]) -> None:
    for key in node.keys() - _KNOWN:
        raise _refusal(f'The schema uses "{key}", which is not enforced here')
    for key, value in node.items():
        expected = _expected(key, value)
        if expected:
            raise _refusal(f'The schema\'s "{key}" is not {expected}')
    if node.get("format", "date") not in _FORMATS:
        raise _refusal(f"The schema's format {node['format']!r} is not enforced here")
    if "$ref" in node and not _REFERENCE.fullmatch(node["$ref"]):
        raise _refusal('The schema has a "$ref" that does not name one of its own definitions ("#/$defs/…")')


def _expected(key: str, value: Any) -> str:
    """What a key must hold; empty when it does."""
    if key in _REPEATS:
        fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_REPEAT
        return "" if fits else f"a whole number from 0 to {MAX_REPEAT:,}"
    if key in _BOUNDS:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return "" if fits else "a number"
    if key in _NAME_MAPS:
        return "" if isinstance(value, dict) and all(map(_is_schema, value.values())) else "an object of schemas"
    if key in ("items", "additionalProperties"):
        return "" if _is_schema(value) else "a schema"
    if key in ("prefixItems", "anyOf"):
        return "" if isinstance(value, list) and all(map(_is_schema, value)) else "a list of schemas"
    if key == "required":
        return "" if _is_texts(value) else "a list of texts"
    if key == "type":
        return "" if isinstance(value, str) or _is_texts(value) else "a text or a list of texts"
    if key == "enum":
        return "" if isinstance(value, list) else "a list"
    if key in ("format", "$ref"):
        return "" if isinstance(value, str) else "a text"
    return ""


def _is_schema(value: Any) -> bool:
    return isinstance(value, dict | bool)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _check_references(schema: dict[str, Any]) -> None:
    """Refuse references that lead nowhere or, by whatever way, back to where they are."""
    edges: dict[str, set[str]] = {}
    starts = {node["$ref"] for _, node in _walk(schema) if "$ref" in node}
    waiting = list(starts)
    while waiting:
        reference = waiting.pop()
        if reference in edges:
            continue
        target = _lookup(schema, reference)
        edges[reference] = {node["$ref"] for _, node in _walk(target) if "$ref" in node}
        # A reference to an ancestor of another reference's target also closes a circle: its walk meets that "$ref" again.
        waiting += edges[reference]
    while edges:
        leaves = [name for name, targets in edges.items() if not targets & edges.keys()]
        if not leaves:
            raise _refusal(f"The schema refers to itself by {sorted(edges)[0]!r}")
        for name in leaves:
            del edges[name]


def _lookup(schema: dict[str, Any], reference: str) -> dict[str, Any]:
    _, place, name = reference.split("/")
    target = schema.get(place, {}).get(name)
    if not isinstance(target, dict):
        raise _refusal(f"The schema has no {reference!r}")
    return target
