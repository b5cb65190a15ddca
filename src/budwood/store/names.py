"""What may be called what: release names, aliases, digests, keys and file paths.

The alphabets are small on purpose: a name is typed, shown in URLs and logs, and becomes part of a model id. Lower case only
means that no two names differ by case alone, and ASCII only that none looks like another. Nothing that passes here can
leave the folder that it is joined to.
"""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

from budwood.errors import StoreError
from budwood.identity import Digest

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")
_RESERVED = frozenset({"latest", "base", "none", "all", "default"})
_DIGEST = re.compile(r"[0-9a-f]{64}")
_HEXADECIMAL = re.compile(r"[0-9a-f]+")
_KEY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,127})")
SHORTEST_PREFIX = 6


def check_name(name: str) -> str:
    """Accept a release name or refuse it, naming the character or word that is wrong."""
    return _plain(name, "release name")


def check_token_name(name: str) -> str:
    """Accept the name of an access token; the rule is that for release names."""
    return _plain(name, "token name")


def check_alias(alias: str) -> str:
    """Accept an alias; besides the rule for names, it must not read as a version number or a digest prefix."""
    _plain(alias, "alias")
    if _HEXADECIMAL.fullmatch(alias) and (alias.isdigit() or len(alias) >= SHORTEST_PREFIX):
        meaning = "version number" if alias.isdigit() else "digest prefix"
        raise StoreError(f'The alias "{alias}" reads as a {meaning}.', mend="Choose a word, e.g. production or staging.")
    return alias


def check_digest(digest: str) -> Digest:
    """Accept a whole sha256 digest: 64 lower-case hexadecimal digits."""
    if not _DIGEST.fullmatch(digest):
        shown = _shown(digest)
        raise StoreError(
            f"{shown} is no digest: it needs 64 hexadecimal digits of a sha256, this has {len(digest)} characters.",
            mend="Give the whole digest, or a prefix where a prefix is accepted.",
        )
    return Digest(digest)


def check_prefix(prefix: str) -> str:
    """Accept the first digits of a digest; a trailing "…" as we print it is taken off."""
    digits = prefix.strip().removesuffix("…")
    if not _HEXADECIMAL.fullmatch(digits) or not SHORTEST_PREFIX <= len(digits) <= 64:
        raise StoreError(
            f"{_shown(prefix)} is no digest prefix.",
            mend=f"Give {SHORTEST_PREFIX} to 64 of its lower-case hexadecimal digits.",
        )
    return digits


def check_key(key: str) -> str:
    """Accept the name of a work folder: one path part of plain letters, digits, dot, dash, underscore."""
    if not _KEY.fullmatch(key):
        raise StoreError(f"{_shown(key)} cannot name a work folder.", mend="Use letters, digits, '.', '_' and '-'.")
    return key


def check_paths(paths: Iterable[str], *, kept: Iterable[str], where: str) -> None:
    """Refuse file paths that leave their folder, cannot exist everywhere, or clash with each other or with `kept`."""
    seen: dict[str, str] = {name.lower(): name for name in kept}
    for path in paths:
        reason = _path_fault(path)
        other = seen.get(path.lower())
        if reason is None and other is not None:
            reason = "is taken" if other == path else f"differs from {other!r} by case only"
        if reason:
            raise StoreError(f"The file path {_shown(path)} {reason}.", where=where, mend="Give the file another name.")
        seen[path.lower()] = path


def _path_fault(path: str) -> str | None:
    if any(ord(sign) < 32 or ord(sign) == 127 or unicodedata.category(sign) in {"Cf", "Cs"} for sign in path):
        return "holds a control or invisible character"
    if "\\" in path:
        return "holds a backslash"
    if path.startswith("/"):
        return "is absolute"
    if path != str(PurePosixPath(path)) or any(part in {"", ".", ".."} for part in path.split("/")):
        return "is not a plain relative path"
    return None


def _plain(name: str, what: str) -> str:
    if not name:
        raise StoreError(f"The {what} is empty.", mend="Use lower-case letters, digits, '.', '_' or '-'.")
    for sign in name:
        if sign not in _ALLOWED:
            mend = f'Write "{name.lower()}".' if _is_name(name.lower()) else "Use lower-case letters, digits, '.', '_' or '-'."
            raise StoreError(f"The {what} {_shown(name)} holds {_sign(sign)}, which is not allowed.", mend=mend)
    if not _NAME.fullmatch(name):
        raise StoreError(
            f"The {what} {_shown(name)} is not allowed.",
            mend="Use 1 to 64 characters, with a letter or digit at both ends.",
        )
    if name in _RESERVED:
        raise StoreError(f'"{name}" is reserved: no {what} may have it.', mend="Choose another word.")
    return name


def _is_name(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and name not in _RESERVED


def _sign(sign: str) -> str:
    """Name a character so that an invisible one can be found."""
    return f"{sign!r} (U+{ord(sign):04X} {unicodedata.name(sign, 'unnamed')})"


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 80 else f"{text[:60]!r}… ({len(text):,} characters)"
