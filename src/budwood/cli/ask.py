"""`budwood ask`: one question to a running server, and which release answered."""

import json
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from budwood.cli.options import JsonOption
from budwood.cli.output import for_terminal, print_json, print_next
from budwood.errors import ServeError
from budwood.identity import short

if TYPE_CHECKING:
    from urllib.error import HTTPError

TIMEOUT_S = 120
TOKEN_VARIABLE = "BUDWOOD_TOKEN"
"""Holds the access token for servers that ask for one."""
LONGEST_REPLY_BYTES = 64 << 20
UNAUTHORISED = 401


def register(app: typer.Typer) -> None:
    @app.command(
        name="ask",
        short_help="Ask a running server one question.",
        epilog='Example: budwood ask support "Where is my parcel A7-48213?"',
    )
    def ask(
        model: Annotated[str, typer.Argument(help="NAME, NAME@ALIAS or NAME@VERSION", show_default=False)],
        message: Annotated[str, typer.Argument(help="what the user says", show_default=False)],
        system: Annotated[str, typer.Option("--system", help="system message")] = "",
        url: Annotated[str, typer.Option("--url", help="where the server listens")] = "http://127.0.0.1:8321",
        as_json: JsonOption = False,
    ) -> None:
        """Ask a running server one question; says which release answered. A token for it is read from BUDWOOD_TOKEN."""
        messages = [{"role": "system", "content": system}] if system else []
        answer = _post(url, {"model": model, "messages": [*messages, {"role": "user", "content": message}]})
        text, release = _read(answer, url)
        if as_json:
            print_json(answer)
            return
        typer.echo(for_terminal(text))
        typer.echo(f"\nAnswered by release {for_terminal(short(release))}.")
        print_next(f"budwood lineage {for_terminal(short(release))}")


def _post(url: str, body: dict[str, object]) -> Any:
    """Send the question and give the reply as JSON.

    Raises:
        ServeError: the URL is none, nobody answers there or breaks off, the server refuses, or its reply is no JSON.
    """
    from http.client import HTTPException, IncompleteRead, InvalidURL
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    no_url = ServeError(f"{url!r} is no URL of a server.", where="--url", mend="Write it as http://127.0.0.1:8321.")
    if not url.startswith(("http://", "https://")):
        raise no_url
    # An argument that is no UTF-8 holds half characters; JSON spells them out, and the server refuses them by name.
    data = json.dumps(body).encode()
    try:
        request = Request(f"{url}/v1/chat/completions", data=data, headers={"Content-Type": "application/json"})
        if token := _token():
            # Not as an option: other users of the machine see those. Nor to wherever a reply sends us on to.
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        with urlopen(request, timeout=TIMEOUT_S) as response:
            reply = response.read(LONGEST_REPLY_BYTES)
            if response.length:
                raise IncompleteRead(reply, response.length)
    except HTTPError as error:
        mend = f"Put a token into {TOKEN_VARIABLE}." if error.code == UNAUTHORISED else "See GET /v1/models for names."
        raise ServeError(f"The server answered {error.code}: {_message(error)}", mend=mend) from None
    except URLError as error:
        raise ServeError(f"No server answers at {url}: {error.reason}.", mend="Start one with `budwood serve`.") from None
    except TimeoutError:
        raise ServeError(
            f"The server at {url} has not answered within {TIMEOUT_S} s.", mend="Look at its log; it may be busy."
        ) from None
    except (InvalidURL, ValueError):
        raise no_url from None
    except (HTTPException, OSError) as error:
        raise ServeError(
            f"The connection to {url} broke off: {error or type(error).__name__}.",
            mend="Check that a Budwood server listens there, then ask again.",
        ) from None
    try:
        return json.loads(reply)
    except (ValueError, RecursionError):
        raise _odd(url, "it is no JSON") from None


def _token() -> str:
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not (token.isascii() and token.isprintable()):
        raise ServeError(
            "What it holds is no access token.", where=TOKEN_VARIABLE, mend="Put in what `budwood token create` shows."
        )
    return token


def _read(answer: Any, url: str) -> tuple[str, str]:
    """Take the text and the release out of a reply."""
    try:
        text, release = answer["choices"][0]["message"]["content"], answer["system_fingerprint"]
    except (KeyError, IndexError, TypeError):
        raise _odd(url, "it has no message or no system_fingerprint") from None
    if not isinstance(text, str) or not isinstance(release, str):
        raise _odd(url, "its message or system_fingerprint is no text")
    return text, release


def _odd(url: str, why: str) -> ServeError:
    return ServeError(f"What {url} replied is no answer: {why}.", mend="Check that a Budwood server listens there.")


def _message(error: "HTTPError") -> str:
    """The reason that a refusal gives."""
    text = error.read(LONGEST_REPLY_BYTES).decode(errors="replace")
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return text[:200]
