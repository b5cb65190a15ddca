"""An adapter that was trained elsewhere made into a release: PEFT's files, read strictly, bound to the base that is named.

What a training here leaves behind is not there: no snapshot, no curves, no report. The run says so: its method is "import",
and it holds the digests of the files and what they say of themselves. The release has golden probes, so that a server can
prove that it applies the adapter, and no verdict: it goes live after `budwood release RECIPE --run RUN` has judged that run on
rows of one's own, or on somebody's override, with a reason.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budwood.errors import BaseError, DataError, ReleaseError
from budwood.events import Event, Reporter
from budwood.identity import Digest, digest_file, short

if TYPE_CHECKING:
    from budwood.engine.base import BaseIdentity, BaseRef, Quantization
    from budwood.engine.chat import ChatTemplate
    from budwood.engine.lora import Adapter
    from budwood.engine.lora.peft_config import PeftSettings
    from budwood.engine.probes import ProbeSet
    from budwood.release.make import Precision
    from budwood.store import Store

Conversation = tuple[list[Any], Sequence[Mapping[str, Any]]]
"""Turns, and the tools that there are."""
METHOD = "import"
PROBES = 4
PROBE_TOKENS = 12
CANDIDATES = 24
ALIAS = "production"
QUESTIONS = (
    "Hello! What can you do for me?",
    "Write a short note that thanks a colleague for their help.",
    "My order has not arrived. What should I do?",
    "Explain in one sentence what a database is.",
    "Which of these is a fruit: chair, apple, river?",
    "Summarise: The meeting was moved from Monday to Thursday because two people are ill.",
    "Translate into French: Good morning.",
    "List three colours.",
    "I was charged twice for the same thing.",
    "What is 17 plus 25?",
    "Is this sentence positive or negative? The service was slow and nobody apologised.",
    "Give me a name for a small blue boat.",
)
"""Asked where no prompts are given. An adapter changes every answer a little; what it was trained for, it changes most."""


@dataclass(frozen=True)
class Adoption:
    """How an adapter is taken in.

    Args:
        name: of the release.
        base: as in a recipe's [base] id.
        quantization: form of the base that it was trained on, and is served on.
        precision: compute dtype that it is judged in.
        prompts: file with rows like those that it was trained for; None: a few everyday questions.
        system: message that serving puts before conversations that have none.
        max_new_tokens: of an answer, where a request does not say.
    """

    name: str
    base: str
    quantization: "Quantization" = "none"
    precision: "Precision" = "float32"
    prompts: Path | None = None
    system: str = ""
    max_new_tokens: int = 128


@dataclass(frozen=True)
class Adopted:
    """What came of it; `named_base` is what the file says it was trained on, which is a label only."""

    name: str
    version: int
    digest: Digest
    run: Digest
    adapter: Digest
    base: str
    named_base: str | None
    rank: int
    modules: int
    parameters: int
    probes: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def is_adapter_folder(path: Path) -> bool:
    """Whether a folder holds PEFT's files rather than an OCI layout."""
    return path.is_dir() and (path / "adapter_config.json").exists()


def adopt(store: "Store", folder: Path, wish: Adoption, *, who: str, reason: str, report: Reporter) -> Adopted:
    """Register a PEFT folder as a release of an adapter on a base.

    The adapter is stored as Budwood writes it: the same values, in float32. Doing it again with the same files gives the same
    release.

    Raises:
        BaseError: there is no such base.
        AdapterError: the files are no plain adapter for it: see `engine.lora.checkpoint`.
        DataError: the file of prompts holds none that can be read.
        ReleaseError: a name that is none, or no prompt tells the adapter from the base.
    """
    from budwood.engine.base import identify_base, skeleton
    from budwood.engine.lora import load_adapter
    from budwood.engine.lora.peft_config import read_settings
    from budwood.pipeline.job import template_of
    from budwood.train.base_object import ensure_base

    ref = _base(wish)
    _check_name(wish.name, ref.id)
    settings = read_settings(folder / "adapter_config.json")
    adapter = load_adapter(folder, skeleton(ref))
    report(Event("release", f"{len(adapter.pairs)} modules, {adapter.parameters:,} values, all of them for {ref.id}"))
    template = template_of(ref)
    identity = identify_base(ref)
    prompts = [template.encode_prompt(messages, tools) for messages, tools in _conversations(wish)]
    probes = _probes(ref, prompts, adapter, template, identity, wish, report)
    base_object = ensure_base(store, identity, ref.folder)
    stored = _store_adapter(store, adapter, identity, base_object, wish.quantization)
    run = _store_run(store, folder, settings, stored, base_object, wish, who)
    digest, version = _store_release(store, wish, identity, (base_object, stored, run), template, probes, who, reason)
    return Adopted(
        wish.name,
        version,
        digest,
        run,
        stored,
        ref.id,
        settings.base_id,
        adapter.config.rank,
        len(adapter.pairs),
        adapter.parameters,
        len(probes.probes),
    )


def _base(wish: Adoption) -> "BaseRef":
    from budwood.engine.base import resolve_base

    try:
        return resolve_base(wish.base)
    except BaseError as error:
        raise BaseError(error.what, where="--base", mend=error.mend) from error


def _check_name(name: str, base_id: str) -> None:
    from budwood.recipe.names import check_name as check_spelling
    from budwood.release.make import check_name

    try:
        check_spelling(name)
    except ValueError as error:
        raise ReleaseError(f"{name!r} is no name of a release: {error}.", where="--as-name", mend="Choose another.") from None
    check_name(name, base_id)


def _conversations(wish: Adoption) -> list[Conversation]:
    """What the probes are chosen from, without the answers."""
    opening = [{"role": "system", "content": wish.system}] if wish.system else []
    if wish.prompts is None:
        return [([*opening, {"role": "user", "content": question}], ()) for question in QUESTIONS]
    rows = _rows(wish.prompts)[:CANDIDATES]
    return [(turns if turns[0]["role"] == "system" else [*opening, *turns], tools) for turns, tools in rows]


def _rows(path: Path) -> list[Conversation]:
    """Read records in any shape that `budwood prepare` reads, one a line."""
    from budwood.json_text import decode
    from budwood.prepare.shapes import Misshapen, convert, recognise

    where = f"--prompts {path}"
    try:
        # Not at every character that Unicode takes for a line's end: some may stand in a JSON text.
        lines = [line for line in path.read_text("utf-8").split("\n") if line.strip()]
        records = [decode(line) for line in lines]
        if not records or not all(isinstance(record, dict) for record in records):
            raise ValueError("no records, one JSON object a line")
        shape = recognise(records, shown=path.name)
        found = [convert(record, shape, {}) for record in records]
    except (OSError, ValueError, Misshapen) as error:
        raise DataError(f"The prompts cannot be read: {error}.", where=where, mend="Give JSONL as for a recipe.") from None
    asked: list[Conversation] = [(_question([message.as_json() for message in one.messages]), one.tools) for one in found]
    if not all(turns for turns, _ in asked):
        raise DataError("A record asks nothing.", where=where, mend="Each needs a question before its answer.")
    return asked


def _question(turns: list[Any]) -> list[Any]:
    return turns[:-1] if turns and turns[-1]["role"] == "assistant" else turns


def _probes(
    ref: "BaseRef",
    prompts: Sequence[Sequence[int]],
    adapter: "Adapter",
    template: "ChatTemplate",
    identity: "BaseIdentity",
    wish: Adoption,
    report: Reporter,
) -> "ProbeSet":
    from budwood.release.measure import make_probes

    fitting = [prompt for prompt in prompts if len(prompt) + PROBE_TOKENS <= identity.context]
    if not fitting:
        raise ReleaseError(
            f"No prompt leaves room for an answer: the base sees {identity.context:,} tokens.",
            where="--prompts",
            mend="Give shorter ones.",
        )
    try:
        return make_probes(
            ref,
            fitting,
            adapter=adapter,
            quantization=wish.quantization,
            count=PROBES,
            max_new_tokens=PROBE_TOKENS,
            stop_ids=template.stop_ids,
            report=report,
        )
    except ReleaseError as error:
        mend = "Give questions of the kind that it was trained for: --prompts ROWS.jsonl. Nothing was imported."
        raise ReleaseError(error.what, where=error.where, mend=mend) from error


def _store_adapter(
    store: "Store", adapter: "Adapter", identity: "BaseIdentity", base_object: Digest, quantization: "Quantization"
) -> Digest:
    from budwood.engine.lora import save_adapter
    from budwood.train.result import adapter_body

    with store.draft("adapter") as draft:
        save_adapter(adapter, draft.folder, base_id=identity.id, revision=identity.revision)
        return draft.commit(parents=[base_object], body=adapter_body(adapter, identity, quantization))


def _store_run(
    store: "Store",
    folder: Path,
    settings: "PeftSettings",
    adapter: Digest,
    base_object: Digest,
    wish: Adoption,
    who: str,
) -> Digest:
    from budwood.engine.lora.checkpoint import CONFIG_FILE, TENSOR_FILE

    fields = json.loads((folder / CONFIG_FILE).read_bytes())
    body = {
        "method": METHOD,
        "files": {name: digest_file(folder / name) for name in (CONFIG_FILE, TENSOR_FILE)},
        "says": {
            "base": settings.base_id,
            "revision": settings.revision,
            "peft_version": fields.get("peft_version"),
        },
        "result": adapter,
        "quantization": wish.quantization,
        "precision": wish.precision,
    }
    with store.draft("run") as draft:
        said = {"who": who, "folder": str(folder.resolve())}
        return draft.commit(parents=[base_object, adapter], body=body, attestation=said)


def _store_release(
    store: "Store",
    wish: Adoption,
    identity: "BaseIdentity",
    made: tuple[Digest, Digest, Digest],
    template: "ChatTemplate",
    probes: "ProbeSet",
    who: str,
    reason: str,
) -> tuple[Digest, int]:
    from budwood.release.make import Decoding, Label, Parts, ResultRef, bind

    base_object, adapter, run = made
    live = next((row.digest for row in store.aliases(wish.name) if row.alias == ALIAS), None)
    parts = Parts(
        base_identity=identity.as_body(),
        base_object=base_object,
        result=ResultRef("adapter", adapter),
        run=run,
        snapshot=None,
        report=None,
        verdict=None,
        quantization=wish.quantization,
        precision=wish.precision,
        template_source=template.source,
        system=wish.system,
        decoding=Decoding(temperature=0.0, max_new_tokens=wish.max_new_tokens, stop_ids=template.stop_ids),
        probes=probes,
        parent=live,
    )
    return bind(Label(wish.name, ALIAS, f"imported from PEFT files, run {short(run)}"), store, parts, who=who, reason=reason)
