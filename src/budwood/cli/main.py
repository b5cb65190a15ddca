"""`budwood`: puts the commands together and turns errors into plain sentences."""

import io
import os
import re
import shlex
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, TextIO

import typer

from budwood.cli import (
    approve,
    ask,
    canary,
    catalog,
    compose,
    data,
    delete,
    drift,
    evaluate,
    gc,
    history,
    lineage,
    merge,
    plan,
    prepare,
    promote,
    recipe,
    release,
    rollback,
    run,
    serve,
    status,
    token,
    train,
    verify,
)
from budwood.cli.output import for_terminal
from budwood.errors import BudwoodError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

REFUSED = 3
FAILED = 4
INTERRUPTED = 130
_ADVISED = re.compile(r"`(budwood (?!recipe\b|ask\b)[^`]*)`")
"""A command in an error's advice that works on a store."""
LONGEST_CAUSE = 300
"""Characters of an error that was not foreseen; some libraries put whole tables into theirs."""


def build_app() -> typer.Typer:
    """Make the command tree, in the order of the pipeline."""
    app = typer.Typer(
        name="budwood",
        help="From instruction data to a LoRA or QLoRA adapter that is proven, versioned, served and revertible.",
        epilog="Start with: budwood run RECIPE.toml\n\nAny command takes --debug: an error then shows its traceback.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for module in (
        run,
        plan,
        prepare,
        train,
        evaluate,
        release,
        approve,
        promote,
        rollback,
        canary,
        serve,
        token,
        ask,
        merge,
        compose,
    ):
        module.register(app)
    for module in (status, history, drift, lineage, data, verify, delete, gc, catalog, recipe):
        module.register(app)
    return app


def main() -> None:
    """Run the command that was typed; the process's exit code is documented in `budwood.cli`."""
    debug = "--debug" in sys.argv
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    sys.stdout, sys.stderr = _outliving_its_reader(sys.stdout), _outliving_its_reader(sys.stderr)
    try:
        code = _invoke(arguments)
    except _usage_errors() as error:
        error.show()  # type: ignore[attr-defined]  # the class is found by name, see below
        code = REFUSED
    except (KeyboardInterrupt, typer.Abort):
        code = _told("interrupted; run the same command again to go on from there.", INTERRUPTED, debug=debug)
    except BudwoodError as error:
        code = _told(_with_store(str(error), arguments), REFUSED, debug=debug)
    except Exception as error:
        code = _told(f"{_in_a_line(error)}; repeat with --debug and report it.", FAILED, debug=debug)
    sys.exit(code)


def _invoke(arguments: list[str]) -> int:
    """Run the command and give its exit code.

    typer's own runner is passed over: it makes exit codes of its own for an interruption and a closed pipe, and its 1 for the
    latter would read as the gate's REJECT.
    """
    command = typer.main.get_command(build_app())
    try:
        with command.make_context("budwood", arguments) as context:
            command.invoke(context)
    except typer.Exit as stop:
        return stop.exit_code
    return 0


def _usage_errors() -> type[Exception]:
    """Find the base of typer's usage errors: newer releases carry a copy of click, older ones import it."""
    found: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
    return found


def _in_a_line(error: Exception) -> str:
    """Say what was not foreseen; of a failure of the system, which file it is about."""
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename!r}" if error.filename is not None else error.strerror
    said = " ".join(str(error).split())
    return f"unexpected {type(error).__name__}{': ' if said else ''}{said[:LONGEST_CAUSE]}"


def _with_store(text: str, arguments: Sequence[str]) -> str:
    """Let the commands that an error advises work on the store that was named on this command line."""
    given = [
        word.removeprefix("--store=")
        for before, word in pairwise(["", *arguments])
        if before == "--store" or word.startswith("--store=")
    ]
    if not given:
        return text
    option = f" --store {shlex.quote(given[-1])}"
    return _ADVISED.sub(lambda found: found[0] if "--store" in found[1] else f"`{found[1]}{option}`", text)


def _told(text: str, code: int, *, debug: bool) -> int:
    """Say why the command ended, from within the handler; give the exit code."""
    if debug:
        traceback.print_exc()
    else:
        print(f"budwood: {for_terminal(text)}", file=sys.stderr)
    return code


class _Output(io.FileIO):
    """A descriptor whose reader may go: what nobody reads is dropped. Another failure is raised once."""

    _lost = False

    def write(self, data: "ReadableBuffer", /) -> int:
        if not self._lost:
            try:
                return super().write(data)
            except OSError as error:
                self._lost = True
                if not isinstance(error, BrokenPipeError):
                    raise
        return memoryview(data).nbytes


def _outliving_its_reader(stream: TextIO | None) -> TextIO:
    """A stream that may be piped to `head`: the command still ends with its own exit code, which may be a verdict."""
    if stream is None:  # closed by whoever started us
        return open(os.devnull, "w")
    raw = io.BufferedWriter(_Output(stream.fileno(), "wb", closefd=False))
    lines = isinstance(stream, io.TextIOWrapper) and stream.line_buffering
    return io.TextIOWrapper(raw, encoding=stream.encoding, errors=stream.errors, line_buffering=lines)
