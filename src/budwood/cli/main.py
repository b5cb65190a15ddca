"""`budwood`: puts the commands together and turns errors into plain sentences."""

import sys

import typer

from budwood.cli import (
    ask,
    evaluate,
    history,
    lineage,
    plan,
    prepare,
    promote,
    recipe,
    release,
    rollback,
    run,
    serve,
    status,
    train,
    verify,
)
from budwood.errors import BudwoodError

REFUSED = 3
INTERRUPTED = 130


def build_app() -> typer.Typer:
    """Make the command tree, in the order of the pipeline."""
    app = typer.Typer(
        name="budwood",
        help="From instruction data to a LoRA or QLoRA adapter that is proven, versioned, served and revertible.",
        epilog="Start with: budwood run RECIPE.toml",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for module in (run, plan, prepare, train, evaluate, release, promote, rollback, serve, ask):
        module.register(app)
    for module in (status, history, lineage, verify, recipe):
        module.register(app)
    return app


def main() -> None:
    """Run the command that was typed; the process's exit code is documented in `budwood.cli`."""
    debug = "--debug" in sys.argv
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    try:
        code = build_app()(arguments, standalone_mode=False)
    except BudwoodError as error:
        if debug:
            raise
        print(f"budwood: {error}", file=sys.stderr)
        code = REFUSED
    except _usage_errors() as error:
        error.show()  # type: ignore[attr-defined]  # the class is found by name, see below
        code = REFUSED
    except (KeyboardInterrupt, typer.Abort):
        print("budwood: interrupted; run the same command again to go on from there.", file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; nothing is left to say to it.
        sys.stderr.close()
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


def _usage_errors() -> type[Exception]:
    """Find the base of typer's usage errors: newer releases carry a copy of click, older ones import it."""
    found: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
    return found
