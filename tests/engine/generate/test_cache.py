import torch
from hypothesis import given
from hypothesis import strategies as st

from budwood.engine.generate.cache import SlotCache, longest_batch

LIKE = torch.zeros(1, 2, 3)


def fill(cache: SlotCache) -> None:
    keys, values = cache.layer(0, LIKE)
    keys.copy_(torch.arange(keys.numel()).view(keys.shape))
    values.copy_(-keys)


def test_growing_keeps_what_is_held() -> None:
    cache = SlotCache(max_rows=8, max_columns=1024, budget=8192)
    assert cache.reserve(2, 100)
    fill(cache)
    before = cache.layer(0, LIKE)[0].clone()
    assert cache.reserve(5, 300)
    keys, values = cache.layer(0, LIKE)
    assert keys.shape[0] >= 5
    assert keys.shape[2] >= 300
    torch.testing.assert_close(keys[:2, :, : before.shape[2]], before)
    torch.testing.assert_close(values[:2, :, : before.shape[2]], -before)


def test_a_slot_moves_with_its_positions() -> None:
    cache = SlotCache(max_rows=4, max_columns=128, budget=512)
    assert cache.reserve(3, 10)
    fill(cache)
    source = cache.layer(0, LIKE)[0][2, :, :7].clone()
    cache.move(2, 0, 7)
    torch.testing.assert_close(cache.layer(0, LIKE)[0][0, :, :7], source)


@given(st.lists(st.tuples(st.integers(1, 70), st.integers(1, 2000)), max_size=20))
def test_the_budget_is_never_passed_and_what_is_granted_fits(asked: list[tuple[int, int]]) -> None:
    cache = SlotCache(max_rows=64, max_columns=1024, budget=8192)
    for rows, columns in asked:
        granted = cache.reserve(rows, columns)
        assert cache.rows * cache.columns <= 8192
        assert granted == (rows <= 64 and columns <= 1024 and rows * columns <= 8192)
        if granted:
            assert cache.rows >= rows
            assert cache.columns >= columns


def test_one_long_request_does_not_lock_out_many_short_ones() -> None:
    cache = SlotCache(max_rows=64, max_columns=8192, budget=8192)
    assert cache.reserve(1, 8000)
    assert cache.reserve(64, 128)
    assert cache.reserve(1, 8000)


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=12), st.integers(0, 1000))
def test_the_padded_product_is_cut_where_work_is_least(lengths: list[int], row_cost: int) -> None:
    def work(columns: int) -> int:
        return len(lengths) * columns + sum(length + row_cost for length in lengths if length > columns)

    assert work(longest_batch(lengths, row_cost)) == min(work(columns) for columns in lengths)
