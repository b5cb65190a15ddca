"""The near-duplicate search of each side over the same texts: rows that lie in one cluster are called near."""

import struct
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

THRESHOLD = 0.8
PERMUTATIONS = 128
Clusters = list[int]
"""Cluster of each row, known by one of its rows."""


def budwood(texts: Sequence[str], folder: Path) -> Clusters:
    del folder
    return search(texts, len(texts))


def budwood_in_numpy(texts: Sequence[str], folder: Path) -> Clusters:
    """The way of a machine without a compiler."""
    del folder
    return search(texts, len(texts), native=False)


def search(texts: Any, count: int, *, native: bool = True) -> Clusters:
    """Run Budwood's search on texts by number, none of which may go: every near pair is to be joined."""
    import numpy

    from budwood.text.near.entries import sign_texts
    from budwood.text.near.search import Terms, find_repeats

    nothing = numpy.zeros(count, numpy.uint8)
    meaning = numpy.zeros((count, 2), numpy.uint64)
    terms = Terms(meaning, nothing, nothing, nothing, numpy.arange(count, dtype=numpy.int64))
    entries = sign_texts((texts[i] for i in range(count)), count, threshold=THRESHOLD, threads=2, native=native)
    parent = array("q", range(count))
    find_repeats(entries, terms, lambda i: str(texts[i]), parent, native=native)
    return list(_roots(parent))


def datasketch(texts: Sequence[str], folder: Path) -> Clusters:
    """As its documentation has it, given the shingles that Budwood compares: signature, query, insert; its choice of bands."""
    del folder
    from datasketch import MinHash, MinHashLSH

    from budwood.text.similarity import is_short, shingles

    index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    parent = array("q", range(len(texts)))
    for i, text in enumerate(texts):
        sketch = MinHash(num_perm=PERMUTATIONS)
        sketch.update_batch([shingle.encode() for shingle in shingles(text, "characters" if is_short(text) else "words")])
        for j in index.query(sketch):
            _join(parent, i, j)
        index.insert(i, sketch, check_duplication=False)
    return list(_roots(parent))


def datatrove(texts: Sequence[str], folder: Path) -> Clusters:
    """Run its three stages with their defaults but two.

    Words are parted at spaces, which is faster than the parsers that it brings; and shingles are hashed by sha1, its other
    choice, since xxhash 4 takes no text and datatrove 0.10.1 hands it text.
    """
    from datatrove.data import Document
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.word_tokenizers import WordTokenizer

    class AtSpaces(WordTokenizer):  # type: ignore[misc]  # has no types
        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

        def sent_tokenize(self, text: str) -> list[str]:
            return [text]

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [(0, len(text))]

    config = MinhashConfig(hash_config=HashConfig(hash_fc="sha1"))
    signatures, pairs, clusters = (str(folder / name) for name in ("signatures", "pairs", "clusters"))
    documents = (Document(text=text, id=str(i)) for i, text in enumerate(texts))
    MinhashDedupSignature(signatures, config=config, language=AtSpaces()).run(documents)
    for bucket in range(config.num_buckets):
        MinhashDedupBuckets(signatures, pairs, config=config).run(None, bucket, config.num_buckets)
    MinhashDedupCluster(pairs, clusters, config=config, save_cluster_id=True).run(None, 0, 1)
    found = list(range(len(texts)))
    first: dict[int, int] = {}
    written = folder / "clusters" / "000000.clusters"
    if not written.exists():
        return found
    for row, cluster in struct.iter_unpack("<2I", written.read_bytes()):
        found[row] = first.setdefault(cluster, row)
    return found


SIDES: dict[str, Callable[[Sequence[str], Path], Clusters]] = {
    "budwood": budwood,
    "budwood, numpy": budwood_in_numpy,
    "datasketch": datasketch,
    "datatrove": datatrove,
}


def _join(parent: "array[int]", first: int, second: int) -> None:
    low, high = sorted((_root(parent, first), _root(parent, second)))
    parent[high] = low


def _root(parent: "array[int]", member: int) -> int:
    while parent[member] != member:
        parent[member] = member = parent[parent[member]]
    return member


def _roots(parent: "array[int]") -> "array[int]":
    return array("q", (_root(parent, member) for member in range(len(parent))))
