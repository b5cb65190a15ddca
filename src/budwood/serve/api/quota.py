"""A caller's limits as one request meets them: what it takes, and the headers that say what is left."""

import math

from budwood.serve.access.limits import OverLimit
from budwood.serve.api.context import Context
from budwood.serve.api.faults import ApiError, bad_request


class Quota:
    """What one request may use.

    Args:
        context: whose limits.
        caller: name of the token.
    """

    def __init__(self, context: Context, caller: str) -> None:
        self._context = context
        self._caller = caller

    @property
    def headers(self) -> dict[str, str]:
        return self._context.limits.headers(self._caller)

    def take(self, what: str, cost: int) -> None:
        """Take from the caller's minute.

        Raises:
            ApiError: 429 with `Retry-After`; 400 where there could never be enough.
        """
        try:
            self._context.limits.take(self._caller, what, cost)
        except OverLimit as over:
            self._context.metrics.rate_limited.labels(what).inc()
            raise self._over(over, cost) from None

    def give_back(self, tokens: int) -> None:
        """Return tokens that were taken and not used."""
        self._context.limits.give_back(self._caller, "tokens", tokens)

    def _over(self, over: OverLimit, cost: int) -> ApiError:
        whose = f"the token {self._caller!r}" if self._caller else "all callers without a token together"
        if over.wait_s is None:
            return bad_request(
                f"This request may take {cost:,} tokens, prompt and answer; {over.limit:,} a minute is the limit of {whose}.",
                "max_tokens",
                code="rate_limit_exceeded",
                mend="Ask for fewer.",
            )
        self._context.metrics.refused.inc()
        wait_ms = math.ceil(over.wait_s * 1000)
        headers = {"retry-after": str(math.ceil(over.wait_s)), "retry-after-ms": str(wait_ms), **self.headers}
        return ApiError(
            429,
            f"{over.limit:,} {over.what} a minute is the limit of {whose}.",
            code="rate_limit_exceeded",
            headers=headers,
            mend=f"Try again in {over.wait_s:.1f} s.",
        )
