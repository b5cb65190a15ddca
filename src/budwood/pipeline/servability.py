"""Whether what a recipe trains can be served by the backend that it names; asked before anything is paid for."""

from typing import TYPE_CHECKING

from budwood.engine.servable import AdapterForm, Backend, Problem, servable
from budwood.errors import ReleaseError
from budwood.pipeline.job import Job

if TYPE_CHECKING:
    from budwood.pipeline.subjects import Standing
    from budwood.recipe import Recipe


def backend_of(recipe: "Recipe") -> Backend:
    return Backend(recipe.serve.backend, recipe.serve.vllm_max_lora_rank)


def problems_of(recipe: "Recipe", method: str) -> list[Problem]:
    """What the recipe's backend would not serve of what this recipe trains.

    Args:
        recipe: its [train] and [serve].
        method: that the plan chose; a full model is served by any backend.
    """
    train = recipe.train
    if method == "full":
        return []
    form = AdapterForm(
        max((train.rank, *train.rank_pattern.values())) * (2 if train.init == "pissa" else 1),
        train.dora,
        bool(train.token_rows),
        bool(train.rank_pattern or train.alpha_pattern),
        {4: "nf4", 8: "int8"}[train.bits] if method == "qlora" else "none",
    )
    return servable(form, backend_of(recipe))


def check_recipe(recipe: "Recipe", method: str) -> None:
    """Refuse to go on to a release that its backend will not serve.

    Raises:
        ReleaseError: all reasons.
    """
    _refuse(problems_of(recipe, method), "what this recipe trains")


def check_result(job: Job, result: "Standing") -> None:
    """Refuse to release an adapter, trained or composed, that the recipe's backend will not serve.

    Raises:
        ReleaseError: all reasons.
    """
    from budwood.engine.lora.peft_config import read_settings

    if result.adapter is None:
        return
    settings = read_settings(result.adapter / "adapter_config.json")
    form = AdapterForm.of_settings(settings, result.subject.quantization)
    _refuse(servable(form, backend_of(job.recipe)), "this adapter")


def _refuse(problems: list[Problem], what: str) -> None:
    refused = [problem for problem in problems if problem.refused]
    if refused:
        raise ReleaseError(
            f"The backend that is to serve {what} will not: {' '.join(problem.what for problem in refused)}",
            where="[serve] backend",
            mend=" ".join(dict.fromkeys(problem.mend for problem in refused)),
        )
