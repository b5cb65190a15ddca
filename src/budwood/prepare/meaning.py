"""Semantic duplicates: rows that say the same in other words, by the cosine of their texts' vectors.

They are looked for among what the search by wording left, in its order and on its terms. What is compared is the prompt, where
only rows of the same system message, tools and answer repeat each other; or prompt and answer as one text, where system message
and tools have to be the same, and the answer where it has fewer than five words: labels and figures lie too near each other to
be told apart by a vector. Rows that are alike lie in one group in any case.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from budwood.prepare.alike import find_alike
from budwood.prepare.near import Roles, Twins, in_order, terms_of
from budwood.prepare.row import Message
from budwood.prepare.said import said_by, task_text
from budwood.prepare.texts import Texts
from budwood.prepare.vectors import Vectors
from budwood.recipe import SemanticSection
from budwood.text.counted import counted
from budwood.tool_calls import written

if TYPE_CHECKING:
    from numpy import int64
    from numpy.typing import NDArray

VERSION = 1
SHORT_ANSWER = 5
"""Words below which an answer has to be the same."""
SHARES = (0.5, 0.9, 0.99)
"""Of rows, whose cosine with the nearest row before them is told."""


@dataclass
class Meaning:
    """The search, as `separate` calls it; made once a preparation.

    Args:
        section: [prepare.semantic].
        vectors: of the model that it names.
        tick: called with the rows compared, and all of them.
        nearest: share of rows → their cosine with the nearest row before them is at most that; empty until it is known.
    """

    section: SemanticSection
    vectors: Vectors
    tick: Callable[[int, int], None]
    nearest: Mapping[float, float] = field(default_factory=dict)

    def find(self, left: "NDArray[int64]", roles: Roles, parent: "NDArray[int64]", texts: Texts) -> Twins:
        """Join what is alike, and name for each row that may go or be flagged the first one before it that it repeats.

        Args:
            left: rows that are still in, rising.
            roles: of all rows.
            parent: groups, joined along the way.
            texts: reads rows again.
        """
        import numpy

        order = in_order(left, roles)
        keys, meaning = self._keys(order, texts)
        places = self.vectors.gather(keys, lambda row: self._text(texts.value(int(order[row]))))
        terms = terms_of(order, roles, meaning)
        if self.section.action != "drop":
            terms = replace(terms, goes=numpy.zeros_like(terms.goes))
        if self.section.action == "group":
            terms = replace(terms, asks=numpy.zeros_like(terms.asks))
        found = find_alike(
            lambda start, stop: self.vectors.read(places[start:stop]),
            terms,
            self.section.threshold,
            parent,
            device=self.vectors.embed.device,
            tick=lambda done: self.tick(done, len(order)),
        )
        if len(order) > 1:
            sorted_ = numpy.sort(found.nearest[1:])
            self.nearest = {share: float(sorted_[int(share * (len(sorted_) - 1))]) for share in SHARES}
        rows = numpy.flatnonzero(found.twin >= 0)
        return Twins(order[rows], order[found.twin[rows]], found.alike[rows], 0, "")

    def figures(self) -> dict[str, Any]:
        """What was done, for the record beside the snapshot: a choice of the threshold rests on `nearest`."""
        nearest = {f"{share:g}": round(cosine, 4) for share, cosine in self.nearest.items()}
        return {"embedded": self.vectors.embedded, "found": self.vectors.found, "nearest": nearest}

    def said(self) -> str:
        """The same in a line."""
        embedded, found = self.vectors.embedded, self.vectors.found
        text = f"{counted(embedded, 'text')} embedded, {found:,} found embedded"
        if not self.nearest:
            return text
        shown = ", ".join(f"{share:.0%} of rows up to {cosine:.3f}" for share, cosine in self.nearest.items())
        return f"{text}; cosine with the nearest row before: {shown} (threshold {self.section.threshold:g})"

    def _keys(self, order: "NDArray[int64]", texts: Texts) -> "tuple[NDArray[Any], NDArray[Any]]":
        """Of each row, what is embedded and what has to be equal besides, as digests of 16 bytes, (N, 2) each."""
        import numpy

        embedded, besides = bytearray(), bytearray()
        for row in order.tolist():
            value = texts.value(row)
            embedded += _digest(self._text(value))
            besides += _digest(self._besides(value))
        return (
            numpy.frombuffer(bytes(embedded), numpy.uint64).reshape(-1, 2),
            numpy.frombuffer(bytes(besides), numpy.uint64).reshape(-1, 2),
        )

    def _text(self, value: Mapping[str, Any]) -> str:
        messages = [Message.from_json(message) for message in value["messages"]]
        said = [_said(message) for message in messages if message.role != "system"]
        return "\n\n".join(said[:-1] if self.section.on == "prompt" else said)

    def _besides(self, value: Mapping[str, Any]) -> str:
        messages = [Message.from_json(message) for message in value["messages"]]
        task, answer = task_text(messages, value.get("tools", ())), said_by(messages[-1])
        if self.section.on == "prompt" or len(answer.split()) < SHORT_ANSWER:
            return f"{task}\x1e{answer}"
        return task


def _said(message: Message) -> str:
    return f"{message.content.strip()} {written(message.calls)}".strip() if message.calls else message.content.strip()


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
