"""Who waits for whom where loads take turns."""

import threading

from budwood.serve.turns import Turns

PATIENCE_S = 60.0


def test_what_is_first_goes_before_all_that_have_been_waiting() -> None:
    turns, order = Turns(), list[str]()
    waiting = threading.Semaphore(0)

    def after() -> None:
        waiting.release()
        with turns.after():
            order.append("after")

    def first() -> None:
        waiting.release()
        with turns.first():
            order.append("first")

    with turns.after():
        threads = [threading.Thread(target=work) for work in (after, after, first)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert waiting.acquire(timeout=PATIENCE_S)
        # The last of them may still be on its way into the lock: only one that is there can be first.
        while not turns._first_waiting:
            threading.Event().wait(0.001)
    for thread in threads:
        thread.join(PATIENCE_S)
    assert order == ["first", "after", "after"]


def test_one_holds_it_at_a_time() -> None:
    turns, inside, most = Turns(), 0, 0
    lock = threading.Lock()

    def work(kind: int) -> None:
        nonlocal inside, most
        for _ in range(50):
            with turns.first() if kind else turns.after():
                with lock:
                    inside += 1
                    most = max(most, inside)
                with lock:
                    inside -= 1

    threads = [threading.Thread(target=work, args=(number % 2,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert most == 1
