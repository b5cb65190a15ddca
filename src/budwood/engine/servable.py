"""What a serving backend can make of an adapter, asked before it is trained and again before it is released.

The embedded engine serves whatever it trains. vLLM refuses DoRA, rows of tokens, and ranks above its --max-lora-rank; its older
generations ignore a rank or alpha of a layer's own, which is a wrong scale without a word.
Source: vllm-project/vllm, vllm/lora/peft_helper.py and vllm/config/lora.py.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from budwood.engine.lora.peft_config import PeftSettings

BackendKind = Literal["embedded", "vllm"]


@dataclass(frozen=True)
class Backend:
    """What will serve; `max_rank` is vLLM's --max-lora-rank."""

    kind: BackendKind
    max_rank: int = 16


@dataclass(frozen=True)
class AdapterForm:
    """What decides whether an adapter can be served.

    Args:
        rank: the largest in the file; PiSSA's is twice the trained one.
        dora: it has magnitudes.
        token_rows: it has rows of tokens.
        patterns: some layer has a rank or alpha of its own.
        quantization: of the base that it stands on.
    """

    rank: int
    dora: bool = False
    token_rows: bool = False
    patterns: bool = False
    quantization: str = "none"

    @classmethod
    def of_settings(cls, settings: "PeftSettings", quantization: str) -> "AdapterForm":
        """Read it off an adapter's settings file."""
        return cls(
            max(settings.rank, *settings.ranks.values()) if settings.ranks else settings.rank,
            settings.dora,
            bool(settings.token_rows),
            bool(settings.ranks or settings.alphas),
            quantization,
        )


@dataclass(frozen=True)
class Problem:
    """One thing that the backend does not do: `refused` by it, or else served wrong by some versions of it."""

    what: str
    mend: str
    refused: bool = True

    def __str__(self) -> str:
        return f"{self.what} {self.mend}"


def servable(form: AdapterForm, backend: Backend) -> list[Problem]:
    """List what keeps an adapter from being served as it is; empty when nothing does."""
    if backend.kind == "embedded":
        return []
    problems = []
    if form.dora:
        problems.append(Problem("vLLM refuses DoRA.", "Train plain LoRA, or convert on export: --as peft --max-rank N."))
    if form.token_rows:
        problems.append(Problem("vLLM refuses trained rows of tokens.", "Leave token_rows out, or serve a merged model."))
    if form.rank > backend.max_rank:
        problems.append(
            Problem(
                f"The adapter has rank {form.rank}, vLLM takes {backend.max_rank}.",
                "Raise [serve] vllm_max_lora_rank and --max-lora-rank, or lower [train] rank (PiSSA doubles it).",
            )
        )
    if form.quantization == "int8":
        problems.append(
            Problem(
                "vLLM has no form of this base in 8 bits.", "Train with bits = 4 or without, so that it serves what is judged."
            )
        )
    if form.patterns:
        problems.append(
            Problem(
                "Older vLLM servers ignore a rank or alpha of a layer's own and scale it wrongly.",
                "Use one rank and alpha, or a server whose golden probes pass.",
                refused=False,
            )
        )
    if form.quantization == "nf4":
        problems.append(
            Problem(
                "The base was trained on in 4 bits: unquantised, it is another model under the adapter.",
                "Start vLLM with --quantization bitsandbytes (a GPU), or merge onto the expanded weights.",
                refused=False,
            )
        )
    return problems
