"""What training starts from: a fresh adapter, an earlier one, the base's own weights, or an earlier full model."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from budwood.engine.lora import (
    Adapter,
    LoraConfig,
    base_rows,
    linear_shapes,
    load_adapter,
    named_ids,
    new_adapter,
    principal_start,
    resolve_pattern,
    target_paths,
    token_tables,
    with_magnitudes,
)
from budwood.errors import TrainingError
from budwood.identity import Digest, short
from budwood.train.settings import TrainSettings

if TYPE_CHECKING:
    from torch import nn

    from budwood.engine.base import BaseIdentity, BaseRef
    from budwood.engine.lora.token_rows import Names
    from budwood.store import Manifest, Store
    from budwood.train.table import RowTable


def check_start(store: "Store", start: Digest, settings: TrainSettings, identity: "BaseIdentity") -> "Manifest":
    """Check that an earlier result can be gone on from, before anything is loaded.

    Raises:
        TrainingError: another kind of result, another base, other quantisation, or (adapter) another rank or scale.
    """
    manifest = store.manifest(start)
    wanted = "model" if settings.method == "full" else "adapter"
    if manifest.kind != wanted:
        raise _refused(
            f"{short(start)}… is {_an(manifest.kind)}, method {settings.method} goes on from {_an(wanted)}",
            "Set [train] method to what the earlier release was trained with.",
        )
    if manifest.body.get("base") != identity.weights_digest:
        theirs = short(str(manifest.body.get("base")))
        raise _refused(
            f"{short(start)}… belongs to base {theirs}…, this is {short(identity.weights_digest)}…",
            "Use the base of the earlier release, or start fresh.",
        )
    faults = [] if settings.method == "full" else _differences(manifest.body, settings)
    if faults:
        raise _refused(
            f"{short(start)}… was made with other settings: {'; '.join(faults)}",
            "Use the earlier settings, or start fresh with an empty continue_from.",
        )
    return manifest


def wanted_rows(model: "nn.Module", tokenizer: Any, names: "Names") -> dict[str, tuple[int, ...]]:
    """Give path of the embedding or head → tokens whose rows are trained.

    Args:
        model: the base, or its `skeleton`.
        tokenizer: the base's.
        names: the recipe's.

    Raises:
        AdapterError: a name is no single token, an id no row of the base, or a table none of its tables.
    """
    where = "[train] token_rows"
    tables = token_tables(model)
    if not names or tables is None:
        return {}
    return tables.resolve(named_ids(names, tokenizer, where=where), where=where)


def head_note(model: "nn.Module", rows: Mapping[str, tuple[int, ...]]) -> str:
    """Say what rows of the embedding alone leave out, where the head is not tied to it; empty: nothing."""
    tables = token_tables(model)
    if tables is None or tables.tied or tables.embedding not in rows or tables.head in rows:
        return ""
    return (
        f"This base's output head is not tied to its embedding and keeps its own rows: these tokens are learnt where they are "
        f"read, not where they are written. To learn both, name {tables.head} as well"
    )


def check_seen(rows: Mapping[str, tuple[int, ...]], table: "RowTable", tokenizer: Any) -> None:
    """Refuse token rows that nothing can be learnt for.

    Raises:
        TrainingError: no training row has the token.
    """
    ids = sorted({token for tokens in rows.values() for token in tokens})
    unseen = [token for token, held in zip(ids, table.holds(ids), strict=True) if not held]
    if unseen:
        shown = ", ".join(f"{token} {tokenizer.convert_ids_to_tokens(token)!r}" for token in unseen[:5])
        more = f" and {len(unseen) - 5} more" if len(unseen) > 5 else ""
        raise TrainingError(
            f"No training row has the tokens {shown}{more}, so their rows would learn nothing.",
            where="[train] token_rows",
            mend="Leave them out, or add rows that have them. A special token typed into a message stays text; the chat "
            "template writes it as a token.",
        )


def starting_adapter(
    store: "Store",
    start: Digest | None,
    model: "nn.Module",
    settings: TrainSettings,
    rows: Mapping[str, tuple[int, ...]],
) -> Adapter:
    """Make a fresh adapter, or load the one to go on from.

    Args:
        store: of the earlier one.
        start: the earlier one.
        model: the base, without a bank.
        settings: of the training.
        rows: from `wanted_rows`.

    Raises:
        TrainingError: the earlier one has other target modules or token rows.
        AdapterError: the targets or the rank do not fit the base.
    """
    shapes = linear_shapes(model)
    paths = target_paths(
        shapes,
        settings.target_modules,
        layers=settings.layers,
        rank=settings.rank,
        where="[train] target_modules",
        rank_where="[train] rank",
    )
    ranks = resolve_pattern("rank_pattern", settings.rank_pattern, paths)
    for path, rank in ranks.items():
        target_paths(shapes, [path], rank=rank, rank_where="[train] rank_pattern")
    config = LoraConfig(
        settings.rank,
        settings.alpha,
        settings.rslora,
        settings.dropout,
        paths,
        rank_pattern=ranks,
        alpha_pattern=resolve_pattern("alpha_pattern", settings.alpha_pattern, paths),
        dora=settings.dora,
    )
    if start is None:
        return replace(_fresh(model, config, settings), rows=base_rows(model, rows))
    if settings.init != "default":
        raise _refused(
            f"init = {settings.init!r} is for a fresh adapter",
            "Leave init out, and set [train] rank to that of the earlier adapter.",
        )
    earlier = load_adapter(store.folder(start), model)
    if set(earlier.pairs) != set(paths):
        odd = sorted(set(earlier.pairs) ^ set(paths))
        raise _refused(
            f"{short(start)}… has other target modules: {len(odd)} layers are in one of the two only, first {odd[0]}",
            "Use the earlier target_modules, or start fresh with an empty continue_from.",
        )
    unlike = [path for path in paths if _scale(earlier.config, path) != _scale(config, path)]
    if unlike:
        raise _refused(
            f"{short(start)}… has another rank or scale in {len(unlike)} layers, first {unlike[0]}",
            "Use the earlier rank_pattern and alpha_pattern, or start fresh with an empty continue_from.",
        )
    held = {path: one.ids for path, one in earlier.rows.items()}
    if held != {path: tuple(sorted(ids)) for path, ids in rows.items()}:
        raise _refused(
            f"{short(start)}… has token rows of {_listed(held)}, now {_listed(rows)}",
            "Use the earlier token_rows, or start fresh with an empty continue_from.",
        )
    return replace(earlier, config=replace(earlier.config, dropout=settings.dropout))


def _fresh(model: "nn.Module", config: LoraConfig, settings: TrainSettings) -> Adapter:
    adapter = new_adapter(model, config, seed=settings.seed)
    if settings.init == "pissa":
        return principal_start(model, adapter, seed=settings.seed)
    return with_magnitudes(model, adapter) if settings.dora else adapter


def _listed(rows: Mapping[str, tuple[int, ...]]) -> str:
    return "; ".join(f"{path}: {', '.join(map(str, sorted(ids)[:8]))}" for path, ids in rows.items()) or "no token"


def _scale(config: LoraConfig, path: str) -> tuple[int, float]:
    return config.rank_of(path), config.scaling_of(path)


def starting_ref(store: "Store", start: Digest | None, base: "BaseRef") -> "BaseRef":
    """Say which folder full fine-tuning loads its weights from."""
    from budwood.engine.base import BaseRef

    return base if start is None else BaseRef(base.id, store.folder(start), base.revision)


def _differences(body: Any, settings: TrainSettings) -> list[str]:
    wanted = {
        **({"dora": settings.dora} if settings.dora or body.get("dora") else {}),
        "rank": settings.rank,
        "alpha": settings.alpha,
        "rslora": settings.rslora,
        "quantization": settings.quantization,
    }
    return [f"{key} {body.get(key)!r}, now {value!r}" for key, value in wanted.items() if body.get(key) != value]


def _refused(what: str, mend: str) -> TrainingError:
    return TrainingError(f"Cannot continue: {what}.", where="[train] continue_from", mend=mend)


def _an(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
