"""What an access token looks like, and what is kept of it.

    bw_3f9c01ab_<64 hexadecimal digits>

The eight digits in the middle are no secret: people recognise the token by them, and it is looked up by them. The rest are 256
random bits. What is kept is the sha256 of the whole. A password needs a slow hash with a salt because it can be guessed; nobody
guesses 256 random bits, so a slow hash would protect nothing and cost every request its time.
"""

import hashlib
import hmac
import re
import secrets

from budwood.identity import Digest

_FORM = re.compile(r"(bw_[0-9a-f]{8})_[0-9a-f]{64}")


def new_secret() -> str:
    return f"bw_{secrets.token_hex(4)}_{secrets.token_hex(32)}"


def prefix_of(secret: str) -> str | None:
    """The part that is no secret; None: this is no token of ours."""
    found = _FORM.fullmatch(secret)
    return found[1] if found else None


def digest_of(secret: str) -> Digest:
    return Digest(hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest())


def fits(secret: str, digest: str) -> bool:
    """Whether this is the token of that digest; takes the same time wherever they differ."""
    return hmac.compare_digest(digest_of(secret), digest)
