"""`budwood release sign`, `verify` and `trust`: who vouches for a release, and whose word a name asks for."""

from pathlib import Path
from typing import Annotated

import typer

from budwood.cli.options import DEFAULT_STORE, JsonOption, ReasonOption, StoreOption, WhoOption, acting, on_store, open_here
from budwood.cli.output import print_json, print_next
from budwood.cli.release.show import RefArgument

PublicKeys = Annotated[list[Path], typer.Option("--key", help="PEM public key; may be given again", show_default=False)]


def register(app: typer.Typer) -> None:
    @app.command(
        name="sign",
        short_help="Sign a release with a private key.",
        epilog="Example: budwood release sign support@3 --key release.key",
    )
    def sign(
        ref: RefArgument,
        key: Annotated[Path, typer.Option("--key", help="PEM private key: P-256, P-384 or P-521", show_default=False)],
        store: StoreOption = DEFAULT_STORE,
        as_json: JsonOption = False,
    ) -> None:
        """Sign a release after OpenSSF's model signing; the signature lies beside it and changes no digest."""
        from budwood.store.signatures import sign as put

        opened = open_here(store)
        row = opened.find_release(ref)
        place = put(opened, row.digest, key)
        if as_json:
            print_json({"release": row.digest, "signature": str(place)})
            return
        typer.echo(f"{row.name}@{row.version} is signed: {place}")
        print_next(f"budwood release verify {ref} --key PUBLIC_KEY{on_store(store)}")

    @app.command(
        name="verify",
        short_help="Check a release's signature.",
        epilog="Example: budwood release verify support@3 --key release.pub",
    )
    def verify(ref: RefArgument, key: PublicKeys, store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
        """Check that one of these keys has signed a release as it lies here, every byte."""
        from budwood.store.signatures import check, read_key

        opened = open_here(store)
        row = opened.find_release(ref)
        signer = check(opened, row.digest, [read_key(path) for path in key])
        if as_json:
            print_json({"release": row.digest, "key": signer})
            return
        typer.echo(f"{row.name}@{row.version} is signed by key {signer}; its bytes are those that were signed.")

    @app.command(
        name="trust",
        short_help="Say whose signature a name's releases need.",
        epilog="Example: budwood release trust support --key release.pub --reason 'signed in the build'",
    )
    def trust(
        name: Annotated[str, typer.Argument(help="name of releases")],
        key: PublicKeys = [],  # noqa: B006  # typer reads it, nobody changes it
        anybody: Annotated[bool, typer.Option("--anybody", help="ask for no signature any more")] = False,
        store: StoreOption = DEFAULT_STORE,
        who: WhoOption = "",
        reason: ReasonOption = "",
    ) -> None:
        """From now on, releases of a name go live and are served only if one of these keys has signed them; it is recorded."""
        from budwood.errors import ReleaseError
        from budwood.store.signatures import read_key, require

        if bool(key) == anybody:
            raise ReleaseError(
                "Whose signature is to be asked for?", where="--key", mend="Give --key PUBLIC_KEY, or --anybody."
            )
        if not reason.strip():
            raise ReleaseError("A change of the rule needs a reason.", where="--reason", mend="Say why; it is recorded.")
        opened = open_here(store)
        opened.check_known(name)
        require(opened, name, [read_key(path) for path in key], who=acting(who), reason=reason)
        typer.echo(f"Releases of {name} need {'no signature' if anybody else f'the signature of one of {len(key)} keys'}.")
        print_next(f"budwood history {name}{on_store(store)}")
