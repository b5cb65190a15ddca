"""Stopping a training at a step, as somebody who presses Ctrl-C does."""

from collections.abc import Callable

from budwood.events import Event


class Stop(Exception):
    pass


def stopping_at(step: int) -> Callable[[Event], None]:
    """Give a reporter that raises `Stop` when a training tells of this step."""

    def report(event: Event) -> None:
        if event.message.startswith("Training") and event.done == step:
            raise Stop

    return report
