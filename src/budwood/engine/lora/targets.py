"""Which layers of a base can carry a pair, and which of them a list of names means.

A target is a plain linear layer (`nn.Linear`, transformers' `Conv1D`, our `Linear4bit`) other than the output head.
Routers and experts of a mixture of experts are left out: a module path with a part named "experts", "router", "gate" or
"shared_expert_gate" is no target. A delta on a router changes which experts answer, which neither merging nor probes cover;
experts see a few tokens each, so that segments of tokens have no meaning inside them.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from torch import nn

from budwood.engine.lora.frozen import AttachedLinear, is_linear, is_transposed, linear_shape
from budwood.errors import AdapterError

EXCLUDED_PARTS = frozenset({"experts", "router", "gate", "shared_expert_gate"})

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
    target_modules: Sequence[str] | Literal["all-linear"],
    *,
    rank: int | None = None,
    where: str = "target_modules",
    rank_where: str = "rank",
) -> tuple[str, ...]:
    """Resolve names to module paths, in the model's order.

    Args:
        model: the base, or its `linear_shapes`.
        target_modules: "all-linear", or names; a name means every target whose path is the name or ends with "." + name.
        rank: checked against the layers' sizes if given.
        where: where the names were written, for messages.
        rank_where: where the rank was.

    Raises:
        AdapterError: a name matches no target (the nearest are named), the list is empty, or the rank is larger than a
            layer's smaller side, where a pair would cost more than the layer itself.
    """
    shapes = linear_shapes(model) if isinstance(model, nn.Module) else model
    if target_modules == "all-linear":
        paths = tuple(shapes)
    else:
        names = [target_modules] if isinstance(target_modules, str) else list(target_modules)
        _refuse_unknown(names, shapes, where)
        paths = tuple(path for path in shapes if any(matches(path, name) for name in names))
    if not paths:
        raise AdapterError("target_modules names no layer.", where=where, mend='Name layers, or write "all-linear".')
    if rank is not None:
        _check_rank(shapes, paths, rank, rank_where)
    return paths


def matches(path: str, name: str) -> bool:
    """PEFT's rule for a list of names."""
    return path == name or path.endswith(f".{name}")


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


def _refuse_unknown(names: Sequence[str], shapes: Shapes, where: str) -> None:
    problems = []
    for index, name in enumerate(names):
        if any(matches(path, name) for path in shapes):
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
