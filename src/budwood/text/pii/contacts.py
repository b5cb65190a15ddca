"""E-mail addresses, phone numbers, IP addresses."""

import ipaddress
import re

from budwood.text.pii.payment import END, START

EMAIL = re.compile(
    r"(?<![\w.+%-])[A-Za-z0-9_%+-]{1,64}(?:\.[A-Za-z0-9_%+-]{1,64}){0,8}"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.){1,8}[A-Za-z]{2,24}(?![\w@])"
)
IP = re.compile(
    r"(?<![\w.:])(?<!version )(?<!Version )(?:\d{1,3}\.){3}\d{1,3}(?![\w:]|\.\d)"
    r"|(?<![\w.:])(?<!version )(?:\d{1,3}\.){3}\d{1,3}(?=:\d{1,5}\b)"  # with a port
    r"|(?<![\w.:])(?:[0-9A-Fa-f]{1,4}:){2,7}(?::?[0-9A-Fa-f]{1,4}){1,7}(?![\w:])"
)
PHONE = re.compile(
    r"(?<![\w+])(?:\+|00(?=[1-9]))\d{1,3}[ .-]?(?:\(0?\d{1,4}\)[ .-]?)?\d(?:[ ./-]?\d){5,12}" + END  # +44 20 7946 0958
    + "|" + START + r"\(\d{3}\) ?\d{3}[ .-]\d{4}" + END  # (555) 123-4567
    + "|" + START + r"(?:1[ .-])?\d{3}([ .-])\d{3}\1\d{4}" + END  # 555-123-4567
    + "|" + START + r"(?:\(0[1-9]\d{1,3}\)|0[1-9]\d{1,4}[ /-]) ?\d{2,4}(?:[ -]?\d{2,4}){1,3}" + END  # 020 7946 0958
    + "|" + START + r"0[1-9](?:[ .-]\d\d){4}" + END  # 01 23 45 67 89
    + "|" + r"(?<=[^\w.-])0[1-9]\d{8,9}" + END  # 07700900123, only after the word that says so
)  # fmt: skip
_SAID = re.compile(
    r"(?i)\b(?:phone|mobile|cell|tel|telephone|call|whatsapp|fax|handy|telefon\w*|t[eé]l[eé]?fono?|ring|sms|text)\b"
)
_NEAR = 40
"""Characters before an unspaced national number in which a word must say that it is one."""


def ip_length(found: str) -> int:
    try:
        address = ipaddress.ip_address(found)
    except ValueError:
        return 0
    return 0 if address.is_loopback or address.is_unspecified else len(found)


def phone_length(found: str, before: str) -> int:
    digits = re.sub(r"\D", "", found)
    if found.isdigit() and (not found.startswith("00")) and not _SAID.search(before[-_NEAR:]):
        return 0
    return len(found) if 8 <= len(digits) <= 15 else 0
