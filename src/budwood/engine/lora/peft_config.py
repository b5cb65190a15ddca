"""adapter_config.json: PEFT's settings file, read as data through a list of fields that we understand.

A field that changes the mathematics and that we do not compute is refused by name unless it is switched off. A field that we
do not know is accepted only when it is off too (null, false or empty): newer PEFT versions add such fields. Nothing in the
file is ever imported, fetched, or run as a pattern.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from budwood.engine.lora.config import LoraConfig
from budwood.engine.lora.targets import matches, nearest
from budwood.engine.lora.untrusted import open_plain, read_exactly, read_object, refusal
from budwood.errors import AdapterError

MAX_CONFIG_BYTES = 4 << 20
_INITS = (True, False, "gaussian", "orthogonal")
Value = TypeVar("Value", int, float)
_LITERAL = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")


@dataclass(frozen=True)
class PeftSettings:
    """What a settings file says, not yet compared with a base.

    Args:
        targets: names, or "all-linear"; another text is a regular expression, which the caller refuses.
        base_id: a label, never followed.
        ranks: pattern → rank, as written.
        alphas: pattern → alpha, as written.
        token_rows: tokens of the embedding, or table → tokens, as written; empty: none.
    """

    rank: int
    alpha: float
    rslora: bool
    dropout: float
    targets: tuple[str, ...] | str
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    base_id: str | None
    revision: str | None
    fan_in_fan_out: bool
    dora: bool
    token_rows: Sequence[int] | Mapping[str, Sequence[int]]

    def config(self, paths: Sequence[str], targets: tuple[str, ...]) -> LoraConfig:
        """Resolve the patterns on the targeted modules.

        Raises:
            AdapterError: a pattern is no plain name, names no target, or two of them name the same module: PEFT sorts them
                when it saves, so which one wins changes between training and loading.
        """
        return LoraConfig(
            rank=self.rank,
            alpha=self.alpha,
            rslora=self.rslora,
            dropout=self.dropout,
            targets=targets,
            rank_pattern=_resolve("rank_pattern", self.ranks, paths),
            alpha_pattern=_resolve("alpha_pattern", self.alphas, paths),
            dora=self.dora,
        )


def read_settings(path: Path) -> PeftSettings:
    """Read and check a settings file.

    Raises:
        AdapterError: it is no bounded JSON object, a mandatory field is missing, or a value cannot be honoured. All bad
            fields are named at once.
    """
    with open_plain(path) as (descriptor, size):
        if size > MAX_CONFIG_BYTES:
            raise refusal(path, f"has {size} bytes, more than {MAX_CONFIG_BYTES}", "No adapter needs that: fetch it again.")
        data = bytearray(size)
        read_exactly(descriptor, 0, memoryview(data))
    fields = read_object(bytes(data), path)
    problems = _problems(fields)
    if problems:
        raise AdapterError(
            f"{path.name} cannot be honoured: {'; '.join(problems)}.",
            where=str(path.parent),
            mend="Export the adapter as plain LoRA, or train it again with Budwood.",
        )
    return _settings(fields)


def write_settings(
    path: Path,
    config: LoraConfig,
    *,
    base_id: str,
    revision: str | None,
    fan_in_fan_out: bool,
    paths: Sequence[str],
    token_rows: Mapping[str, Sequence[int]],
) -> None:
    """Write a settings file that PEFT reads, and vLLM where there are no token rows: keys sorted, indent 2, no last newline.

    Raises:
        AdapterError: per-module ranks or alphas whose names would overlap in the file.
    """
    for patterns in (config.rank_pattern, config.alpha_pattern):
        _refuse_overlap(patterns, paths)
    fields: dict[str, Any] = {
        "alpha_pattern": {name: _number(alpha) for name, alpha in config.alpha_pattern.items()},
        "base_model_name_or_path": base_id,
        "bias": "none",
        "fan_in_fan_out": fan_in_fan_out,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": _number(config.alpha),
        "lora_dropout": config.dropout,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": config.rank,
        "rank_pattern": dict(config.rank_pattern),
        "revision": revision,
        "target_modules": sorted(config.targets),
        "task_type": "CAUSAL_LM",
        "use_dora": config.dora,
        "use_rslora": config.rslora,
    }
    if token_rows:
        fields["trainable_token_indices"] = {path.rsplit(".", 1)[-1]: list(ids) for path, ids in token_rows.items()}
    path.write_text(json.dumps(fields, indent=2, sort_keys=True), encoding="utf-8")


def _settings(fields: Mapping[str, Any]) -> PeftSettings:
    targets = fields["target_modules"]
    return PeftSettings(
        rank=fields["r"],
        alpha=fields["lora_alpha"],
        rslora=fields.get("use_rslora", False),
        dropout=fields.get("lora_dropout", 0.0),
        targets=targets if isinstance(targets, str) else tuple(targets),
        ranks=fields.get("rank_pattern") or {},
        alphas=fields.get("alpha_pattern") or {},
        base_id=fields.get("base_model_name_or_path"),
        revision=fields.get("revision"),
        fan_in_fan_out=fields.get("fan_in_fan_out") is True,
        dora=fields.get("use_dora", False),
        token_rows=fields.get("trainable_token_indices") or (),
    )


def _problems(fields: Mapping[str, Any]) -> list[str]:
    problems = [f"{name} is missing" for name in ("peft_type", "r", "lora_alpha", "target_modules") if name not in fields]
    for name, value in fields.items():
        if name in _CHECKS:
            wanted = _CHECKS[name][0]
            if not _CHECKS[name][1](value):
                problems.append(f"{name} is {_shown(value)}, not {wanted}")
        elif not _is_off(value):
            kind = "we do not compute" if name in _NOT_COMPUTED else "we do not know"
            problems.append(f"{name} is {_shown(value)}, which {kind}")
    return problems


def _shown(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, float) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_off(value: Any) -> bool:
    return value is None or value is False or value == {} or value == []


def _is_rank(value: Any) -> bool:
    return type(value) is int and 1 <= value <= 1 << 16


def _is_alpha(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 < value <= 1e6


def _is_text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= 4096)


def _is_names(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value)
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) and name for name in value)


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)


def _is_token_rows(value: Any) -> bool:
    return value is None or _is_ids(value) or (isinstance(value, dict) and all(map(_is_ids, value.values())))


def _is_written_by_peft(value: Any) -> bool:
    """Null, or the class label that PEFT writes when the task type is null. It is not used for anything."""
    if value is None:
        return True
    library = value.get("parent_library") if isinstance(value, dict) else None
    return isinstance(library, str) and re.fullmatch(r"transformers(\.\w+)*", library) is not None and len(value) <= 2


def _is_patterns(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or (isinstance(value, dict) and all(check(item) for item in value.values()))


_CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "peft_type": ('"LORA"', lambda value: value == "LORA"),
    "r": ("a whole number from 1 to 65536", _is_rank),
    "lora_alpha": ("a number above 0 and up to 1000000", _is_alpha),
    "target_modules": ("a list of names", _is_names),
    "use_rslora": ("true or false", lambda value: type(value) is bool),
    "use_dora": ("true or false", lambda value: type(value) is bool),
    "lora_dropout": ("a number from 0 to below 1", lambda value: type(value) in (int, float) and 0 <= value < 1),
    "rank_pattern": ("a table of ranks", _is_patterns(_is_rank)),
    "alpha_pattern": ("a table of alphas", _is_patterns(_is_alpha)),
    "base_model_name_or_path": ("a text", _is_text),
    "revision": ("a text", _is_text),
    "peft_version": ("a text", _is_text),
    "task_type": ('"CAUSAL_LM" or null', lambda value: value in (None, "CAUSAL_LM")),
    "inference_mode": ("true or false", lambda value: type(value) is bool),
    "fan_in_fan_out": ("true or false", lambda value: type(value) is bool),
    "bias": ('"none"', lambda value: value == "none"),
    "init_lora_weights": (
        "true, false, gaussian or orthogonal; others change the base's weights, so convert the adapter first",
        lambda value: value in _INITS and type(value) in (bool, str),
    ),
    "auto_mapping": ("null or a class of transformers", _is_written_by_peft),
    "megatron_core": ('"megatron.core" or null', lambda value: value in (None, "megatron.core")),
    "trainable_token_indices": ("null, a list of token ids, or a table of such lists", _is_token_rows),
    "qalora_group_size": ("a number", lambda value: type(value) is int),
}

_NOT_COMPUTED = frozenset(
    {
        "alora_invocation_tokens",
        "arrow_config",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "kasa_config",
        "layer_replication",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_bias",
        "lora_ga_config",
        "megatron_config",
        "modules_to_save",
        "monteclora_config",
        "runtime_config",
        "target_parameters",
        "use_bdlora",
        "use_qalora",
        "velora_config",
    }
)


def _resolve(field: str, patterns: Mapping[str, Value], paths: Sequence[str]) -> dict[str, Value]:
    found: dict[str, tuple[str, Value]] = {}
    for pattern, value in patterns.items():
        hits = [path for path in paths if matches(path, pattern)]
        if not _LITERAL.fullmatch(pattern) or not hits:
            near = nearest(pattern, paths)
            raise AdapterError(
                f'{field} "{pattern[:120]}" names no targeted module' + (f" (nearest: {', '.join(near)})." if near else "."),
                where="adapter_config.json",
                mend="Write plain module names; regular expressions are not run.",
            )
        for path in hits:
            if path in found:
                raise AdapterError(
                    f'{field} has two entries for {path}: "{found[path][0]}" and "{pattern}".',
                    where="adapter_config.json",
                    mend="Which one wins depends on their order, which saving changes: write one entry for each module.",
                )
            found[path] = (pattern, value)
    return {path: value for path, (_, value) in found.items()}


def _refuse_overlap(patterns: Mapping[str, int] | Mapping[str, float], paths: Sequence[str]) -> None:
    for pattern in patterns:
        others = [path for path in paths if path != pattern and matches(path, pattern)]
        if others:
            raise AdapterError(
                f"A rank or alpha of its own for {pattern} would also be read for {others[0]}.",
                where="the adapter's settings",
                mend="Use one rank and one alpha for all modules.",
            )


def _number(value: float) -> int | float:
    return int(value) if float(value).is_integer() else value
