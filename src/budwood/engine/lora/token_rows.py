"""Trained token rows: single rows of the embedding, and of the output head, that an adapter brings in the place of the base's.

New special tokens are learnt by them without saving the embedding. As in PEFT, a row replaces the base's (what the file calls a
delta is the whole row), and where embedding and head are tied the head uses the embedding's rows; where they are not, the head
keeps the base's rows unless it is named as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from budwood.engine.lora.targets import matches, nearest
from budwood.errors import AdapterError

Names = Sequence[str | int] | Mapping[str, Sequence[str | int]]
"""Tokens of the input embedding, or table → tokens."""
_SHOWN = 5


@dataclass(frozen=True)
class TokenRows:
    """Rows of one table.

    Args:
        ids: (n,) rising.
        values: (n, d), the rows of these tokens.
    """

    ids: tuple[int, ...]
    values: Tensor

    @classmethod
    def of(cls, ids: Sequence[int], values: Tensor) -> Self:
        """Put rows in the order of their ids."""
        order = sorted(range(len(ids)), key=lambda place: ids[place])
        return cls(tuple(ids[place] for place in order), values[torch.tensor(order, device=values.device)])


@dataclass(frozen=True)
class Tables:
    """Where a base keeps what its tokens mean: (V, d) each.

    Args:
        embedding: module path of the input embedding.
        head: of the output head.
        tied: they are one tensor.
        tokens: V.
        width: d.
    """

    embedding: str
    head: str
    tied: bool
    tokens: int
    width: int

    @property
    def own(self) -> tuple[str, ...]:
        """Paths of the tables that can have rows: a tied head has the embedding's."""
        return (self.embedding,) if self.tied else (self.embedding, self.head)

    def sharing(self, path: str) -> tuple[str, ...]:
        """Paths of all modules that use the rows of one."""
        return (self.embedding, self.head) if self.tied else (path,)

    def resolve(
        self, named: Sequence[int] | Mapping[str, Sequence[int]], *, where: str, field: str = "token_rows"
    ) -> dict[str, tuple[int, ...]]:
        """Give path → ids, in the order in which they were named.

        Raises:
            AdapterError: a name is no table of this base, an id is not below V or named twice, a list is empty, or a tied head
                is to have other rows than the embedding.
        """
        asked = named if isinstance(named, Mapping) else {self.embedding: named}
        found: dict[str, tuple[int, ...]] = {}
        for name, ids in asked.items():
            path = next((path for path in (self.embedding, self.head) if matches(path, name)), None)
            if path is None or path in found:
                near = nearest(name, (self.embedding, self.head)) or [self.embedding, self.head]
                raise AdapterError(
                    f'{field}: "{name[:120]}" ' + ("is named twice" if path else "is no embedding or output head of this base"),
                    where=where,
                    mend=f"Its tables are {self.embedding} and {self.head} (nearest: {', '.join(near)}).",
                )
            self._check(tuple(ids), f"{field}, {name[:120]}" if isinstance(named, Mapping) else field, where)
            found[path] = tuple(ids)
        if self.tied and self.head in found:
            if found[self.head] != found.get(self.embedding):
                raise AdapterError(
                    f"{field}: embedding and output head of this base are one tensor, but {self.head} is to have other rows.",
                    where=where,
                    mend=f"Name {self.embedding} alone: the head uses its rows.",
                )
            del found[self.head]
        return found

    def _check(self, ids: tuple[int, ...], field: str, where: str) -> None:
        outside = sorted({one for one in ids if not 0 <= one < self.tokens})
        twice = sorted({one for one in ids if ids.count(one) > 1}) if len(set(ids)) < len(ids) else []
        what = ""
        if not ids:
            what = "no token is named"
        elif outside:
            what = f"{_some(outside)} {_are(outside)} no row of this base, which has {self.tokens:,}"
        elif twice:
            what = f"{_some(twice)} {_are(twice)} named twice"
        if what:
            raise AdapterError(f"{field}: {what}.", where=where, mend=f"Name tokens from 0 to {self.tokens - 1}, each once.")


def token_tables(model: nn.Module) -> Tables | None:
    """Find a base's embedding and output head, attached or not; None where it has none."""
    embedding, head = _part(model, "get_input_embeddings"), _part(model, "get_output_embeddings")
    if embedding is None or head is None:
        return None
    paths = {id(module): path for path, module in model.named_modules()}
    tokens, width = embedding.weight.shape  # type: ignore[misc]  # an embedding's attribute
    config: Any = model.config
    tied = bool(getattr(config, "tie_word_embeddings", False))
    return Tables(paths[id(embedding)], paths[id(head)], tied, int(tokens), int(width))


def base_rows(model: nn.Module, ids: Mapping[str, Sequence[int]]) -> dict[str, TokenRows]:
    """Give path → rows that are the base's own, to start from.

    Args:
        model: the base, with or without a bank.
        ids: path → tokens, from `Tables.resolve`.
    """
    found = {}
    for path, tokens in ids.items():
        weight: Tensor = model.get_submodule(path).weight  # type: ignore[assignment]  # a table's attribute
        order = sorted(tokens)
        picked = weight.detach()[torch.tensor(order, device=weight.device)]
        found[path] = TokenRows(tuple(order), picked.to("cpu", torch.float32, copy=True))
    return found


def misfits(rows: Mapping[str, TokenRows], tables: Tables | None) -> list[str]:
    """Say in words which rows are for no table of these."""
    problems = []
    for path, one in rows.items():
        if tables is None or path not in tables.own:
            problems.append(f"{path} is no table whose rows this base can have replaced")
        elif tuple(one.values.shape) != (len(one.ids), tables.width):
            problems.append(f"{path} has {len(one.ids)} tokens with rows {tuple(one.values.shape)}, {tables.width} wide here")
        elif not one.ids or not 0 <= one.ids[0] <= one.ids[-1] < tables.tokens:
            problems.append(f"{path} has rows of tokens beyond {tables.tokens - 1}")
    return problems


def named_ids(names: Names, tokenizer: Any, *, where: str) -> dict[str, tuple[int, ...]] | tuple[int, ...]:
    """Turn tokens that are named by their text into ids; ids stay.

    Args:
        names: texts and ids, or table → texts and ids.
        tokenizer: transformers' tokenizer of the base.
        where: they were written, for messages.

    Raises:
        AdapterError: a text is not a single token of the tokenizer. All such texts are named.
    """
    every = [name for part in names.values() for name in part] if isinstance(names, Mapping) else list(names)
    found: dict[str | int, int] = {}
    problems = []
    for name in dict.fromkeys(every):
        ids = [name] if isinstance(name, int) else tokenizer.encode(name, add_special_tokens=False)
        if len(ids) != 1:
            problems.append(f'"{name}" is {len(ids)} tokens')
        elif isinstance(name, str) and ids[0] == tokenizer.unk_token_id and name != tokenizer.unk_token:
            problems.append(f'"{name}" is unknown')
        else:
            found[name] = ids[0]
    if problems:
        shown = ", ".join(problems[:_SHOWN]) + (f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else "")
        raise AdapterError(
            f"token_rows names texts that are not single tokens of this base's tokenizer: {shown}.",
            where=where,
            mend="Correct the text, add the token to the base's tokenizer.json, or name a token by its id.",
        )
    if isinstance(names, Mapping):
        return {table: tuple(found[name] for name in part) for table, part in names.items()}
    return tuple(found[name] for name in names)


def _part(model: nn.Module, getter: str) -> nn.Module | None:
    find = getattr(model, getter, None)
    found = find() if callable(find) else None
    return found if isinstance(found, nn.Module) else None


def _some(ids: Sequence[int]) -> str:
    shown = ", ".join(map(str, ids[:_SHOWN])) + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")
    return f"token{'s' if len(ids) > 1 else ''} {shown}"


def _are(ids: Sequence[int]) -> str:
    return "are" if len(ids) > 1 else "is"
