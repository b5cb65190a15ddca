"""What a training leaves in the store: the adapter or model, and the run that says how it came about."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budwood.engine.lora import Adapter, save_adapter
from budwood.errors import TrainingError
from budwood.identity import Digest
from budwood.train.curve import Point
from budwood.train.settings import TrainSettings

if TYPE_CHECKING:
    from torch import nn

    from budwood.engine.base import BaseIdentity, BaseRef
    from budwood.store import Store

COPIED = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
)
"""Files of the base that a full model takes over as they are."""


@dataclass(frozen=True)
class Base:
    """The base in its three forms: where it lies, what it is, its object."""

    ref: "BaseRef"
    identity: "BaseIdentity"
    object: Digest


def store_adapter(store: "Store", adapter: Adapter, base: Base, settings: TrainSettings) -> Digest:
    """Store an adapter.

    Raises:
        TrainingError: every B is zero: it changes nothing.
    """
    if not any(bool(pair.b.any()) for pair in adapter.pairs.values()):
        raise nothing_learnt()
    with store.draft("adapter") as draft:
        save_adapter(adapter, draft.folder, base_id=base.identity.id, revision=base.identity.revision)
        return draft.commit(parents=[base.object], body=adapter_body(adapter, base.identity, settings.quantization))


def adapter_body(adapter: Adapter, identity: "BaseIdentity", quantization: str) -> dict[str, Any]:
    """What an adapter's object says of it."""
    return {
        "base": identity.weights_digest,
        "quantization": quantization,
        "rank": adapter.config.rank,
        "alpha": float(adapter.config.alpha),
        "rslora": adapter.config.rslora,
        "targets": list(adapter.config.targets),
        "parameters": adapter.parameters,
        **({"dora": True} if adapter.config.dora else {}),
        **({"token_rows": {path: list(rows.ids) for path, rows in adapter.rows.items()}} if adapter.rows else {}),
    }


def store_model(store: "Store", model: "nn.Module", base: Base) -> Digest:
    """Store full weights in float32, as they were trained and validated, with the base's config and tokenizer."""
    with store.draft("model") as draft:
        write_model(model, base.ref.folder, draft.folder)
        return draft.commit(parents=[base.object], body={"base": base.identity.weights_digest, "method": "full"})


def write_model(model: "nn.Module", base_folder: Path, folder: Path) -> None:
    """Write a folder that `resolve_base` and transformers load."""
    from budwood.engine.base import without_bars

    with without_bars():
        model.save_pretrained(folder)  # type: ignore[operator]  # nn.Module types every attribute as Tensor | Module
    # transformers writes its own version and defaults into these two; the base's own say the same and do not change.
    (folder / "generation_config.json").unlink(missing_ok=True)
    config = json.loads((base_folder / "config.json").read_text("utf-8"))
    config.pop("torch_dtype", None)
    config["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for name in COPIED:
        if (base_folder / name).is_file():
            shutil.copyfile(base_folder / name, folder / name)


def store_run(
    store: "Store",
    curves: Sequence[Point],
    *,
    parents: Sequence[Digest],
    body: Mapping[str, Any],
    attestation: Mapping[str, Any],
) -> Digest:
    """Store the run with one line of curves a step."""
    with store.draft("run") as draft:
        lines = "".join(json.dumps(point.as_dict(), allow_nan=False) + "\n" for point in curves)
        (draft.folder / "curves.jsonl").write_text(lines, encoding="utf-8", newline="\n")
        return draft.commit(parents=parents, body=body, attestation=attestation)


def nothing_learnt() -> TrainingError:
    return TrainingError(
        "Nothing was learnt: the weights are those that training started from.",
        where="[train] learning_rate, epochs",
        mend="Raise the learning rate, or train for more steps. Nothing was stored.",
    )
