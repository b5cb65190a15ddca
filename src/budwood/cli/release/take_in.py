"""`budwood release import`: take an exported release, or an adapter in PEFT's files, into this store."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from budwood.cli.display import display
from budwood.cli.options import DEFAULT_STORE, JsonOption, ReasonOption, StoreOption, WhoOption, acting, on_store, open_here
from budwood.cli.output import print_json, print_next, print_pairs
from budwood.errors import ReleaseError
from budwood.identity import short

if TYPE_CHECKING:
    from budwood.pipeline.adopting import Adopted
    from budwood.release.importing import Imported


def register(app: typer.Typer) -> None:
    @app.command(
        name="import",
        short_help="Take an exported release, or a PEFT adapter, into this store.",
        epilog="Example: budwood release import support.tar",
    )
    def take_in(
        path: Annotated[Path, typer.Argument(help="an archive, the folder of an OCI layout, or a folder of PEFT's files")],
        as_name: Annotated[str, typer.Option("--as-name", help="register it under another name", show_default="its own")] = "",
        base: Annotated[
            str, typer.Option("--base", help="PEFT: the base it was trained on, as in [base] id", show_default=False)
        ] = "",
        quantization: Annotated[
            Literal["none", "nf4", "int8"], typer.Option("--quantization", help="PEFT: the base's form in training and serving")
        ] = "none",
        prompts: Annotated[
            Path | None,
            typer.Option("--prompts", help="PEFT: JSONL like its training rows, for golden probes", show_default=False),
        ] = None,
        system: Annotated[str, typer.Option("--system", help="PEFT: system message of conversations that have none")] = "",
        store: StoreOption = DEFAULT_STORE,
        who: WhoOption = "",
        reason: ReasonOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Check every digest of an archive or OCI layout and register the release; nothing is visible before all is checked.

        A folder of PEFT's files (adapter_config.json, adapter_model.safetensors) becomes a release on --base, with golden
        probes and no verdict: every tensor has to fit, or it is refused by name. Let the gate judge it on rows of yours, or
        promote it with --override and a reason.
        """
        from budwood.pipeline.adopting import Adoption, adopt, is_adapter_folder
        from budwood.pipeline.importing import import_from

        peft = is_adapter_folder(path)
        given = {"--base": base, "--prompts": prompts, "--system": system, "--quantization": quantization != "none"}
        _check(peft, as_name, [name for name, value in given.items() if value])
        opened = open_here(store, create=True)
        said = reason or f"imported from {path.name}"
        if peft:
            wish = Adoption(as_name, base, quantization, prompts=prompts, system=system)
            with display() as report:
                adopted = adopt(opened, path, wish, who=acting(who), reason=said, report=report)
            _print_adopted(adopted, store, as_json)
            return
        with display() as report:
            done = import_from(opened, path, as_name=as_name or None, who=acting(who), reason=said, report=report)
        _print_imported(done, store, as_json)


def _check(peft: bool, as_name: str, given: list[str]) -> None:
    if not peft and given:
        raise ReleaseError(
            f"{', '.join(given)}: that is for a folder of PEFT's files; a release binds its own.", mend="Leave it out."
        )
    if peft and "--base" not in given:
        raise ReleaseError(
            "These are PEFT's files: what they say of their base is a label, and binds nothing.",
            mend="Name the base that it was trained on: --base org/name@revision, or its folder.",
        )
    if peft and not as_name:
        raise ReleaseError("PEFT's files have no name of a release.", mend="Give one: --as-name support.")


def _print_imported(done: "Imported", store: Path, as_json: bool) -> None:
    if as_json:
        print_json(done.as_dict())
        return
    ref = f"{done.name}@{done.version}"
    typer.echo(f"{ref} is in this store, every byte checked.")
    left = f"{done.left_out} parts are named, not here" if done.left_out else "nothing was left out"
    pairs = [("release", done.digest), ("objects", f"{done.objects} ({left})"), ("signed", "yes" if done.signed else "no")]
    print_pairs([*pairs, *([("base", done.base)] if done.base else [])])
    print_next(f"budwood release show {ref}{on_store(store)}", f"budwood promote {ref}{on_store(store)}")


def _print_adopted(done: "Adopted", store: Path, as_json: bool) -> None:
    if as_json:
        print_json(done.as_dict())
        return
    ref = f"{done.name}@{done.version}"
    typer.echo(f"{ref} is in this store: an adapter on {done.base}, not judged yet.")
    other = done.named_base is not None and done.named_base != done.base
    print_pairs(
        [
            ("release", done.digest),
            ("adapter", f"rank {done.rank}, {done.modules} modules, {done.parameters:,} values"),
            ("run", f"{short(done.run)} (imported: no training is on record)"),
            ("probes", f"{done.probes} golden probes"),
            *([("note", f"its file names the base {done.named_base!r}; it is bound to the one given")] if other else []),
        ]
    )
    print_next(
        f"budwood release RECIPE --run {short(done.run)}{on_store(store)}",
        f'budwood promote {ref} --override "REASON"{on_store(store)}',
    )
