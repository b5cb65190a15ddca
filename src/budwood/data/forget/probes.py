"""The golden probes of a release as text: they are prompts of validation or training rows, as token ids."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from budwood.data.forget.found import Place
from budwood.data.forget.wanted import Wanted
from budwood.errors import BudwoodError
from budwood.identity import Digest, short
from budwood.store import Store
from budwood.text.normalise import normalise

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class ProbeTexts:
    """Prompt and answer of each probe, read back; `as_read` gives any text the form in which tokens give it back."""

    probes: tuple[str, ...]
    as_read: Callable[[str], str]


def probe_texts(store: Store, release: Digest, tokenizers: "dict[Path, PreTrainedTokenizerBase]") -> ProbeTexts | Place:
    """Read a release's probes with its base's tokenizer; where that is not to be had, say why.

    Args:
        store: the store.
        release: of it.
        tokenizers: those that were loaded already, by the base's folder; another is added.
    """
    from budwood.engine.base import BaseRef, load_tokenizer
    from budwood.engine.probes import read_probes

    where = f"release {short(release)}, its golden probes"
    names = [entry.path for entry in store.manifest(release).files]
    if "probes.json" not in names:
        return ProbeTexts((), normalise)
    base = store.manifest(release).body["base"]
    folder = _folder(store, base.get("object"))
    if folder is None:
        return Place(where, f"the base {base['id']} is not where it was, and its tokenizer is needed to read them")
    try:
        if folder not in tokenizers:
            tokenizers[folder] = load_tokenizer(BaseRef(str(base["id"]), folder, None))
        tokenizer = tokenizers[folder]
        probes = read_probes(store.file(release, "probes.json")).probes
    except BudwoodError as error:
        return Place(where, error.what)

    def text_of(ids: Sequence[int]) -> str:
        return normalise(str(tokenizer.decode(list(ids))))

    def as_read(text: str) -> str:
        return text_of(tokenizer.encode(text, add_special_tokens=False))

    return ProbeTexts(tuple(text_of((*probe.prompt_ids, *probe.token_ids)) for probe in probes), as_read)


def find_probes(texts: ProbeTexts, wanted: Wanted, prompts: Sequence[Sequence[str]]) -> list[int]:
    """List the places of probes that hold a text, or all turns of one of the prompts."""
    asked = [(text, texts.as_read(text)) for text in wanted.texts]
    turns = [[(turn, texts.as_read(turn)) for turn in prompt] for prompt in prompts]

    def goes(probe: str) -> bool:
        def holds(forms: tuple[str, str]) -> bool:
            return any(form and form in probe for form in forms)

        return (
            any(map(holds, asked))
            or any(pattern.search(probe) for pattern in wanted.patterns)
            or any(prompt and all(map(holds, prompt)) for prompt in turns)
        )

    return [place for place, probe in enumerate(texts.probes) if goes(probe)]


def _folder(store: Store, base: str | None) -> Path | None:
    """Where the base was found last, as it says beside its object."""
    said = store.attestations(base) if base else []
    places = [Path(str(one["folder"])) for one in reversed(said) if "folder" in one]
    return next((place for place in places if place.is_dir()), None)
