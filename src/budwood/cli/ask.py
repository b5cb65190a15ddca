"""`budwood ask`: one question to a running server, and which release answered."""

import json
from typing import Annotated, Any

import typer

from budwood.cli.options import JsonOption
from budwood.cli.output import print_json, print_next
from budwood.errors import ServeError
from budwood.identity import short


def register(app: typer.Typer) -> None:
    @app.command(name="ask", epilog='Example: budwood ask support "Where is my parcel A7-48213?"')
    def ask(
        model: Annotated[str, typer.Argument(help="NAME, NAME@ALIAS or NAME@VERSION", show_default=False)],
        message: Annotated[str, typer.Argument(help="what the user says", show_default=False)],
        system: Annotated[str, typer.Option("--system", help="system message")] = "",
        url: Annotated[str, typer.Option("--url", help="where the server listens")] = "http://127.0.0.1:8321",
        as_json: JsonOption = False,
    ) -> None:
        """Ask a running server one question; says which release answered."""
        messages = [{"role": "system", "content": system}] if system else []
        answer = _post(
            f"{url}/v1/chat/completions", {"model": model, "messages": [*messages, {"role": "user", "content": message}]}
        )
        if as_json:
            print_json(answer)
            return
        typer.echo(answer["choices"][0]["message"]["content"])
        typer.echo(f"\nAnswered by release {short(answer['system_fingerprint'])}.")
        print_next(f"budwood lineage {short(answer['system_fingerprint'])}")


def _post(url: str, body: dict[str, object]) -> dict[str, Any]:
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    request = Request(url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    try:
        with urlopen(request, timeout=120) as response:
            answer: dict[str, Any] = json.load(response)
            return answer
    except HTTPError as error:
        text = error.read().decode(errors="replace")
        raise ServeError(f"The server answered {error.code}: {_message(text)}", mend="See GET /v1/models for names.") from None
    except URLError as error:
        raise ServeError(f"No server answers at {url}: {error.reason}.", mend="Start one with `budwood serve`.") from None


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text[:200]
