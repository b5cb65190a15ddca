"""Personal data and secrets in text: find them, or put a placeholder in their place.

Patterns with a check behind them wherever one exists (Luhn for cards, mod-97 for IBANs, the check digits of national ids,
address parsing for IPs), because a wrong redaction damages a training row as much as a missed one endangers a person. Where a
form alone could be an order number, a word near it must say what it is. Names and street addresses are not looked for: no
pattern finds them reliably, and pretending would be worse than saying so.

    redact("Call +44 20 7946 0958 or write to ann@example.org").text   # 'Call [PHONE] or write to [EMAIL]'
    [f.kind for f in find("card 4111 1111 1111 1111")]                 # ['CARD']
    find("card 4111 1111 1111 1111", kinds=("EMAIL",))                 # []

A module a family: `secrets`, `contacts` (e-mail, phone, IP), `payment` (card, IBAN), `national_ids`; `checks` has the
arithmetic, `find` puts them together. Redacting twice changes nothing more. Findings carry positions, never the text: callers
must not store what was found, nor a digest of it.
"""

from budwood.text.pii.find import find, may_hold, redact
from budwood.text.pii.kinds import KINDS, Finding, PersonalData, Redacted

__all__ = ["KINDS", "Finding", "PersonalData", "Redacted", "find", "may_hold", "redact"]
