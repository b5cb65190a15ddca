"""Rows laid end to end, and which rows share a pass."""

from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from budwood.engine.packed import Encoded, pack, plan_passes
from budwood.errors import DataError

LENGTHS = st.lists(st.integers(1, 40), max_size=80)


def test_rows_lie_end_to_end() -> None:
    batch = pack([Encoded((5, 6, 7), (False, True, True)), Encoded((8, 9), (True, True))])
    assert batch.input_ids.tolist() == [5, 6, 7, 8, 9]
    assert batch.position_ids.tolist() == [0, 1, 2, 0, 1]
    assert batch.cu_seqlens.tolist() == [0, 3, 5]
    assert batch.cu_seqlens.dtype == torch.int32
    assert batch.max_length == 3
    # Token 8 is the first of its row: nothing before it could predict it.
    assert batch.supervised.tolist() == [0, 1, 3]
    assert batch.targets.tolist() == [6, 7, 9]


@given(LENGTHS.filter(bool), st.integers(1, 40), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_what_rounds_a_length_up_stands_behind_the_rows_and_is_never_a_target(
    lengths: list[int], multiple: int, random: Random
) -> None:
    rows = [Encoded(tuple(range(n)), tuple(random.random() < 0.4 for _ in range(n))) for n in lengths]
    plain, rounded = pack(rows), pack(rows, multiple=multiple)
    total = sum(lengths)
    assert len(rounded.input_ids) == total + -total % multiple
    assert (rounded.tokens, plain.tokens) == (total, total)
    assert rounded.input_ids[:total].equal(plain.input_ids)
    assert rounded.cu_seqlens.tolist() == plain.cu_seqlens.tolist() + [len(rounded.input_ids)] * bool(total % multiple)
    assert rounded.supervised.equal(plain.supervised)
    assert rounded.targets.equal(plain.targets)
    count = len(plain.supervised)
    assert rounded.asked[:count].equal(plain.supervised)
    assert len(set(rounded.asked.tolist())) == len(rounded.asked) == count + -count % multiple


@given(LENGTHS.filter(bool))
@settings(max_examples=40, deadline=None)
def test_a_layout_holds_every_token_once_in_its_own_row(lengths: list[int]) -> None:
    layout = pack([Encoded((1,) * length, (False,) * length) for length in lengths]).layout
    total = sum(lengths)
    row_of = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    assert layout.gather[layout.inverse].tolist() == list(range(total))
    overhang = torch.zeros_like(layout.gather, dtype=torch.bool) if layout.overhang is None else layout.overhang
    assert int((~overhang).sum()) == total
    offset = 0
    for rows, longest in layout.shapes:
        for row in range(rows):
            places = slice(offset + row * longest, offset + (row + 1) * longest)
            assert len(set(row_of[layout.gather[places]].tolist())) == 1
            # What hangs over stands at the end, where causality hides it.
            assert overhang[places].tolist() == sorted(overhang[places].tolist())
        offset += rows * longest
    assert offset == len(layout.gather)


@given(LENGTHS, st.integers(1, 60), st.integers(0, 3), st.integers(0, 3))
@settings(max_examples=80, deadline=None)
def test_every_row_is_in_one_pass_and_passes_keep_to_the_budget(lengths: list[int], budget: int, seed: int, epoch: int) -> None:
    passes = plan_passes(lengths, budget, seed=seed, epoch=epoch)
    assert sorted(row for rows in passes for row in rows) == list(range(len(lengths)))
    for rows in passes:
        assert len(rows) == 1 or sum(lengths[row] for row in rows) <= budget
    assert passes == plan_passes(lengths, budget, seed=seed, epoch=epoch)


def test_epochs_and_seeds_differ_and_passes_are_nearly_full() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(20, 120, (3000,), generator=generator).tolist()
    first = plan_passes(lengths, 4096, seed=0, epoch=0)
    assert first != plan_passes(lengths, 4096, seed=0, epoch=1)
    assert first != plan_passes(lengths, 4096, seed=1, epoch=0)
    # 3000 rows of 70 tokens: at most a row's length is lost in each pass, and a part of a pass in each window.
    assert len(first) <= sum(lengths) / 4096 * 1.06 + 1


def test_nothing_to_pack_is_refused() -> None:
    with pytest.raises(DataError, match="There are no rows to pack"):
        pack([])
    with pytest.raises(DataError, match="Row 1 of the batch has no tokens"):
        pack([Encoded((1,), (False,)), Encoded((), ())])
