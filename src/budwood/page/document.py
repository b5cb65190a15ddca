"""A page's parts → the file."""

import base64
import hashlib
from importlib.resources import files

from budwood.page.markup import text


def document(*, title: str, body: str, package: str, style: str, script: str = "") -> str:
    """Put a page together.

    Args:
        title: plain text.
        body: finished HTML.
        package: where the page's own style and script lie.
        style: file name of what its style adds to the shared one.
        script: file name; empty: a page without.
    """
    css = _read("budwood.page", "page.css") + _read(package, style)
    code = _read(package, script) if script else ""
    allowed = f"script-src {_source(code)}; " if code else ""
    policy = f"default-src 'none'; style-src {_source(css)}; {allowed}img-src data:"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<title>{text(title)}</title>
<style>{css}</style></head>
<body><main>
{body}
</main>{f"<script>{code}</script>" if code else ""}</body></html>
"""


def _read(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text("utf-8")


def _source(content: str) -> str:
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
