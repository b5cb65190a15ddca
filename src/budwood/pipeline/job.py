"""One recipe on one store, and the base that it names."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from budwood.errors import BaseError
from budwood.events import Event, Reporter
from budwood.identity import Digest
from budwood.recipe import Recipe

if TYPE_CHECKING:
    from budwood.engine.base import BaseIdentity, BaseRef
    from budwood.engine.chat import ChatTemplate
    from budwood.engine.embed import Embedder
    from budwood.store import Store


@dataclass(frozen=True)
class Job:
    """One recipe on one store, with who acts and who watches.

    Args:
        recipe: what is to be done.
        store: where everything is kept.
        report: gets signs of life.
        who: acts; for the history.
        reason: why; for the history.
        trackers: names of who gets a training's figures besides.
        processes: how many train together.
        run: first digits of a run that is judged and released instead of training; empty: train.
        snapshot: first digits of a snapshot to work on, e.g. of `budwood data select`; empty: the one that is prepared.
    """

    recipe: Recipe
    store: "Store"
    report: Reporter
    who: str = ""
    reason: str = ""
    trackers: tuple[str, ...] = ()
    processes: int = 1
    run: str = ""
    snapshot: str = ""

    @cached_property
    def base(self) -> "OpenBase":
        """The base's identity and chat template; its weights are hashed but not loaded."""
        return open_base(self)

    @cached_property
    def embedder(self) -> "Embedder | None":
        """The model that semantic duplicates are found with; its weights are hashed but not loaded. None: no such search."""
        return open_embedder_of(self.recipe)

    def on(self, snapshot: Digest) -> "Job":
        """The same job on another snapshot; the base is not looked at again."""
        job = replace(self, snapshot=snapshot)
        job.__dict__["base"] = self.base
        return job

    def say(self, stage: str, message: str) -> None:
        self.report(Event(stage, message))


def check_sources(recipe: Recipe) -> None:
    """Look whether every source can be opened, before anything is made for its sake.

    Raises:
        DataError: one is missing, a folder, or may not be read.
    """
    from budwood.prepare.files import check_file

    for source in recipe.source:
        check_file(recipe.path(source.path), shown=source.path)


@dataclass(frozen=True)
class OpenBase:
    ref: "BaseRef"
    identity: "BaseIdentity"
    template: "ChatTemplate"
    object: Digest


def open_base(job: Job) -> OpenBase:
    from budwood.engine.base import identify_base, resolve_base
    from budwood.train.base_object import ensure_base

    ref = resolve_base(job.recipe.base.id, start=job.recipe.folder)
    identity = identify_base(ref)
    return OpenBase(ref, identity, template_of(ref), ensure_base(job.store, identity, ref.folder))


def open_embedder_of(recipe: Recipe) -> "Embedder | None":
    """Find the embedding model of [prepare.semantic].

    Raises:
        BaseError: it cannot be used; key and path are named.
    """
    asked = recipe.prepare.semantic
    if not asked.model:
        return None
    from budwood.engine.device import best_device
    from budwood.engine.embed import open_embedder

    try:
        return open_embedder(asked.model, start=recipe.folder, pooling=asked.pooling, device=best_device())
    except BaseError as error:
        where = "" if error.where in ("", "[base] id") else f", {error.where}"
        raise BaseError(
            f"The embedding model {asked.model!r} cannot be used. {error.what}",
            where=f"[prepare.semantic] model{where}",
            mend=error.mend,
        ) from error


def template_of(ref: "BaseRef") -> "ChatTemplate":
    from budwood.engine.base import load_tokenizer
    from budwood.engine.chat import chat_template
    from budwood.engine.text_identity import template_file

    return chat_template(load_tokenizer(ref), where=str(template_file(ref.folder)))
