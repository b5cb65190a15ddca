"""Access keys, tokens, private keys, passwords that are written out.

Issuers mark their keys with a prefix, and those are found by it. A value without a mark is a secret only where its name says
so (`password = …`) and it looks like one: letters with digits or signs, and no variable, path or placeholder.
"""

import re

MARKED = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----[\s\S]{1,8000}?-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
    r"|\bsk-(?=[A-Za-z_-]{0,60}\d)(?:[A-Za-z]{1,12}-){0,2}[A-Za-z0-9_-]{20,250}"
    r"|\b(?:AKIA|ASIA|AROA|AIDA)[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{36,255}\b|\bgithub_pat_[A-Za-z0-9_]{22,255}\b"
    r"|\bglpat-[A-Za-z0-9_-]{20,64}|\bxox[abeoprs]-[A-Za-z0-9-]{10,250}|\bxapp-\d-[A-Za-z0-9-]{10,250}"
    r"|\bhooks\.slack\.com/services/T\w{6,12}/B\w{6,14}/\w{16,32}"
    r"|\bhf_[A-Za-z0-9]{30,64}\b|\bnpm_[A-Za-z0-9]{36}\b|\bpypi-[A-Za-z0-9_-]{40,250}"
    r"|\bAIza[0-9A-Za-z_-]{35}|\bGOCSPX-[A-Za-z0-9_-]{20,40}|\bya29\.[A-Za-z0-9_-]{20,250}"
    r"|\b[srp]k_(?:live|test)_[0-9A-Za-z]{16,250}\b|\bwhsec_[A-Za-z0-9+/=]{24,80}"
    r"|\bSG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}|\bdop_v1_[0-9a-f]{64}\b|\bshpat_[0-9a-fA-F]{32}\b"
    r"|\blin_api_[A-Za-z0-9]{32,64}\b|\bnvapi-[A-Za-z0-9_-]{40,100}|\bsq0[a-z]{3}-[A-Za-z0-9_-]{22,50}"
    r"|\b\d{8,10}:AA[A-Za-z0-9_-]{33}(?![\w-])"  # Telegram's bots
    r"|\beyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{10,1000}"
)

NAMED = re.compile(
    r"(?i)(?:"
    r"\b(?:[a-z0-9]{1,20}[_-]){0,4}(?:passwo?r?d|passwd|pwd|passphrase|secret|token"
    r"|(?:api|access|auth|secret|private|account)[_ -]?key"
    r"|client[_ -]?secret|credential|kennwort|passwort|contraseña|mot de passe)s?"
    r"(?:[_-][a-z]{1,12})?[\"']?(?: ?(?::=|=>|[:=]) ?| (?:is|was|ist|es|est|lautet)(?: now| set to)?:? )"
    r"|\bauthorization: ?(?:basic|bearer) |\bbearer "
    r")[\"'`]?(?P<value>[^\s\"'`,;<>()\[\]{}]{6,256})"
)
IN_ADDRESS = re.compile(r"(?i)\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"'<>]{1,64}:(?P<value>[^\s/@\"'<>]{3,128})@(?=[\w.-])")
_PASSWORD = re.compile(r"(?i)\w{0,60}(?:passwo?r?d|pwd|passphrase|kennwort|passwort|contraseña|mot de passe)")
_NO_SECRET = re.compile(
    r"(?i)[$%*<\[{]|x{4,}|\.{3}|https?:|os\.|env\.|process\.|getenv|[a-z_]+\.[a-z_.]+$|[a-z_]+\("
    r"|(?:your|my|the|some|example|sample|dummy|placeholder|changeme|redacted|none|null|true|false)(?:[_ -]|$)"
)


def named(text: str, position: int = 0) -> tuple[int, int] | None:
    """Find the next value whose name calls it a secret; its place without the name, or None."""
    while match := NAMED.search(text, position):
        value = match["value"].rstrip(".!?:")
        if _looks_secret(value, said=bool(_PASSWORD.match(match[0]))):
            start = match.start("value")
            return start, start + len(value)
        position = match.start("value")
    return None


def in_address(text: str, position: int = 0) -> tuple[int, int] | None:
    """Find the next password inside an address (scheme://name:password@host)."""
    match = IN_ADDRESS.search(text, position)
    while match and _NO_SECRET.match(match["value"]):
        match = IN_ADDRESS.search(text, match.end())
    return match.span("value") if match else None


def _looks_secret(value: str, *, said: bool) -> bool:
    """Letters with a sign, or with two digits; one digit behind a word ("version2") is how things are numbered.

    Args:
        value: what stands behind the name.
        said: whether the name says password, which is never numbered.
    """
    if len(value) < 6 or _NO_SECRET.match(value):
        return False
    letters = sum(sign.isalpha() for sign in value)
    digits = sum(sign.isdigit() for sign in value)
    signs = any(not sign.isalnum() and sign not in "-_./:" for sign in value)
    mixed = (value.lower() != value != value.upper() and not value[:1].isupper()) or len(value) >= 10
    return letters > 0 and (signs or digits >= 2 or (digits == 1 and (mixed or not value[-1].isdigit() or said)))
