"""Which layers of a base can carry a pair, and which of them a list of names, an expression and a range of layers mean.

A target is a plain linear layer (`nn.Linear`, transformers' `Conv1D`, our `Linear4bit`) other than the output head.
Routers and experts of a mixture of experts are left out: a module path with a part named "experts", "router", "gate" or
"shared_expert_gate" is no target. A delta on a router changes which experts answer, which neither merging nor probes cover;
experts see a few tokens each, so that segments of tokens have no meaning inside them.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from torch import nn

from budwood.engine.lora.frozen import AttachedLinear, is_linear, is_transposed, linear_shape
from budwood.errors import AdapterError

Value = TypeVar("Value", int, float)
EXCLUDED_PARTS = frozenset({"experts", "router", "gate", "shared_expert_gate"})

REGEX = "regex:"
"""Before a regular expression that has to fit a whole module path."""

Shapes = Mapping[str, tuple[int, int]]
"""Module path → (d_out, d_in)."""


def linear_sites(model: nn.Module) -> dict[str, nn.Module]:
    """Give every layer that can carry a pair, by path, in the model's order. An attached layer counts as the one inside."""
    head = _output_head(model)
    sites: dict[str, nn.Module] = {}
    inside: list[str] = []
    for path, module in model.named_modules():
        if any(path.startswith(prefix) for prefix in inside):
            continue
        if isinstance(module, AttachedLinear):
            inside.append(f"{path}.")
        elif not is_linear(module):
            continue
        if path and module is not head and EXCLUDED_PARTS.isdisjoint(path.split(".")):
            sites[path] = module
    return sites


def linear_shapes(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Give path → (d_out, d_in) of every layer that can carry a pair."""
    return {path: linear_shape(module) for path, module in linear_sites(model).items()}


def target_paths(
    model: nn.Module | Shapes,
    target_modules: Sequence[str] | str,
    *,
    layers: str = "",
    rank: int | None = None,
    where: str = "target_modules",
    rank_where: str = "rank",
) -> tuple[str, ...]:
    """Resolve names to module paths, in the model's order.

    Args:
        model: the base, or its `linear_shapes`.
        target_modules: "all-linear"; or names, each meaning every target whose path is the name or ends with "." + name; or
            "regex:" and an expression that has to fit a whole path. Names may be such expressions, too.
        layers: which decoder layers, e.g. "8-" or "0-3,20"; empty: all.
        rank: checked against the layers' sizes if given.
        where: where the names were written, for messages.
        rank_where: where the rank was.

    Raises:
        AdapterError: a name or range matches no target (the nearest are named), an expression is none, the list is empty, or
            the rank is larger than a layer's smaller side, where a pair would cost more than the layer itself.
    """
    shapes = linear_shapes(model) if isinstance(model, nn.Module) else model
    if target_modules == "all-linear":
        paths = tuple(shapes)
    else:
        names = [target_modules] if isinstance(target_modules, str) else list(target_modules)
        _refuse_unknown(names, shapes, where)
        paths = tuple(path for path in shapes if any(selects(name, path) for name in names))
    if layers:
        paths = _in_layers(paths, layers)
    if not paths:
        raise AdapterError("target_modules names no layer.", where=where, mend='Name layers, or write "all-linear".')
    if rank is not None:
        _check_rank(shapes, paths, rank, rank_where)
    return paths


def matches(path: str, name: str) -> bool:
    """PEFT's rule for a list of names."""
    return path == name or path.endswith(f".{name}")


def selects(name: str, path: str) -> bool:
    """Whether a name, or an expression after "regex:", means this path."""
    if name.startswith(REGEX):
        return re.fullmatch(name.removeprefix(REGEX), path) is not None
    return matches(path, name)


def resolve_pattern(field: str, values: Mapping[str, Value], paths: Sequence[str]) -> dict[str, Value]:
    """Give path → value for a table of name or expression → value.

    Raises:
        AdapterError: an entry means no path, or two mean the same one with different values.
    """
    found: dict[str, Value] = {}
    for name, value in values.items():
        _refuse_unknown([name], dict.fromkeys(paths, (0, 0)), f"[train] {field}")
        for path in paths:
            if not selects(name, path):
                continue
            if found.get(path, value) != value:
                raise AdapterError(
                    f"{field} has both {found[path]} and {value} for {path}.",
                    where=f"[train] {field}",
                    mend="Let each layer be meant by one entry, or by entries that agree.",
                )
            found[path] = value
    return found


def layer_of(path: str) -> int | None:
    """Give the number of the decoder layer that a path lies in: its first part that is a number."""
    return next((int(part) for part in path.split(".") if part.isdigit()), None)


def layer_ranges(text: str) -> list[tuple[int, int | None]]:
    """Read "8-", "0-3,20" and the like: first and last layer of each range, None for no end.

    Raises:
        ValueError: it is none.
    """
    ranges: list[tuple[int, int | None]] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d+)\s*(-?)\s*(\d*)\s*", part)
        if found is None or (found[3] and not found[2]):
            raise ValueError(f"{part.strip()!r} is no range of layers")
        first = int(found[1])
        last = int(found[3]) if found[3] else (None if found[2] else first)
        if last is not None and last < first:
            raise ValueError(f"{part.strip()!r} ends before it begins")
        ranges.append((first, last))
    return ranges


def short_targets(shapes: Shapes, paths: Iterable[str]) -> tuple[str, ...]:
    """Name a set of paths as briefly as the suffix rule allows: last parts if they mean these paths, else in full."""
    wanted = set(paths)
    names = sorted({path.rsplit(".", 1)[-1] for path in wanted})
    meant = {path for path in shapes if any(matches(path, name) for name in names)}
    return tuple(names) if meant == wanted else tuple(sorted(wanted))


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Find up to three known names or path endings like `name`."""
    paths = list(known)
    parts = name.count(".") + 1
    endings = {".".join(path.split(".")[-parts:]) for path in paths}
    return difflib.get_close_matches(name, sorted(endings), n=3, cutoff=0.5)


def has_conv1d(model: nn.Module, paths: Iterable[str]) -> bool:
    """Whether one of the layers stores its weight as (d_in, d_out)."""
    sites = linear_sites(model)
    return any(is_transposed(sites[path]) for path in paths)


def _output_head(model: nn.Module) -> nn.Module | None:
    find = getattr(model, "get_output_embeddings", None)
    head = find() if callable(find) else None
    return head if isinstance(head, nn.Module) else None


def _in_layers(paths: tuple[str, ...], text: str) -> tuple[str, ...]:
    where = "[train] layers"
    try:
        ranges = layer_ranges(text)
    except ValueError as error:
        raise AdapterError(f"layers = {text!r}: {error}.", where=where, mend='Write e.g. "8-" or "0-3,20".') from None
    count = 1 + max((layer_of(path) or 0 for path in paths), default=0)
    beyond = [first for first, last in ranges if max(first, last or 0) >= count]
    if beyond:
        raise AdapterError(
            f"layers = {text!r} reaches beyond this base's {count} layers (0 to {count - 1}).",
            where=where,
            mend=f'Write ranges up to {count - 1}, or "{min(beyond[0], count - 1)}-" for all that follow.',
        )

    def inside(path: str) -> bool:
        layer = layer_of(path)
        return layer is not None and any(first <= layer and (last is None or layer <= last) for first, last in ranges)

    return tuple(path for path in paths if inside(path))


def _selects(name: str, path: str, where: str) -> bool:
    try:
        return selects(name, path)
    except re.error as error:
        raise AdapterError(
            f"{name!r} is no regular expression: {error}.", where=where, mend="Correct it; see Python's re module."
        ) from None


def _refuse_unknown(names: Sequence[str], shapes: Shapes, where: str) -> None:
    problems = []
    for index, name in enumerate(names):
        if any(_selects(name, path, where) for path in shapes):
            continue
        near = nearest(name, shapes)
        hint = f" (nearest: {', '.join(near)})" if near else ""
        problems.append(f'target_modules[{index}]: "{name}" matches no linear layer of this base{hint}.')
    if problems:
        raise AdapterError(
            " ".join(problems),
            where=where,
            mend='Correct the name, or write "all-linear". The output head, routers and experts are no targets.',
        )


def _check_rank(shapes: Shapes, paths: Iterable[str], rank: int, where: str) -> None:
    small = [path for path in paths if rank > min(shapes[path])]
    if small:
        path = min(small, key=lambda item: (min(shapes[item]), item))
        d_out, d_in = shapes[path]
        more = f" and {len(small) - 1} more" if len(small) > 1 else ""
        raise AdapterError(
            f"Rank {rank} is larger than a side of {path} ({d_in} in, {d_out} out){more}.",
            where=where,
            mend=f"Use a rank of at most {min(d_out, d_in)}, or leave such layers out of target_modules.",
        )
