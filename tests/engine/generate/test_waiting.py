from budwood.engine.generate.waiting import FairQueue


def queue() -> FairQueue[tuple[int, int]]:
    """Items are (key, cost)."""
    return FairQueue(lambda item: item[0], lambda item: item[1])


def drained(waiting: FairQueue[tuple[int, int]], count: int) -> list[int]:
    keys = []
    for _ in range(count):
        item = waiting.urgent or waiting.ordinary
        assert item is not None
        waiting.take(item)
        keys.append(item[0])
    return keys


def test_a_crowd_at_one_key_does_not_keep_another_waiting() -> None:
    waiting = queue()
    for _ in range(100):
        waiting.add((0, 10))
    assert drained(waiting, 5) == [0] * 5
    waiting.add((1, 10))
    waiting.add((1, 10))
    assert drained(waiting, 4).count(1) == 2


def test_turns_go_by_cost_not_by_requests() -> None:
    waiting = queue()
    for _ in range(60):
        waiting.add((0, 30))
        waiting.add((1, 10))
    found = drained(waiting, 40)
    assert 28 <= found.count(1) <= 32


def test_idle_times_give_no_credit_and_leaving_gains_nothing() -> None:
    waiting = queue()
    for _ in range(50):
        waiting.add((0, 10))
    drained(waiting, 50)
    for _ in range(50):
        waiting.add((0, 10))
        waiting.add((1, 10))
    assert 9 <= drained(waiting, 20).count(1) <= 11
    big = queue()
    big.add((0, 1000))
    big.add((1, 10))
    drained(big, 1)
    big.add((0, 10))
    for _ in range(20):
        big.add((1, 10))
    assert drained(big, 10) == [1] * 10


def test_urgent_ones_come_first_in_their_order() -> None:
    waiting = queue()
    waiting.add((0, 1))
    waiting.add((5, 1), urgent=True)
    waiting.add((6, 1), urgent=True)
    assert drained(waiting, 3) == [5, 6, 0]
    assert len(waiting) == 0
    assert waiting.ordinary is None


def test_any_item_can_be_removed() -> None:
    waiting = queue()
    items = [(0, 1), (0, 2), (1, 3)]
    for item in items:
        waiting.add(item)
    waiting.add((9, 9), urgent=True)
    waiting.remove((9, 9))
    waiting.remove((0, 1))
    waiting.remove((1, 3))
    assert list(waiting) == [(0, 2)]
