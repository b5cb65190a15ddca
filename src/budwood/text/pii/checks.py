"""The arithmetic behind numbers that check themselves. Each takes the bare sign sequence and says whether it holds.

Sources: ISO/IEC 7812-1 annex B (Luhn), ISO 13616 and ISO 7064 (mod 97, mod 11,10), Verhoeff 1969, and each country's own
published rule. tests/text/pii holds each to a second, written-out form.
"""

from collections.abc import Callable, Sequence

_CF_ODD = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22,
         25, 24, 23),
        strict=True,
    )
)  # fmt: skip


def luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def mod97(iban: str) -> bool:
    """Check an IBAN written without spaces: letters count from A = 10, the whole leaves 1 modulo 97."""
    turned = iban[4:] + iban[:4]
    return int("".join(str(int(sign, 36)) for sign in turned)) % 97 == 1


def verhoeff(digits: str) -> bool:
    """Check by the dihedral group of order 10 (India's Aadhaar)."""
    state = 0
    for place, digit in enumerate(reversed(digits)):
        state = _dihedral(state, _turned(int(digit), place))
    return state == 0


def _dihedral(a: int, b: int) -> int:
    if a < 5:
        return (a + b) % 5 if b < 5 else (a + b - 5) % 5 + 5
    return (a - 5 - b) % 5 + 5 if b < 5 else (a - b) % 5


def _turned(digit: int, times: int) -> int:
    for _ in range(times % 8):
        digit = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[digit]
    return digit


def weighted(digits: str, weights: Sequence[int]) -> int:
    """Add up digit times weight."""
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=True))


def iso_mod11_10(digits: str) -> bool:
    """Check ISO 7064's hybrid system (Germany's tax id)."""
    product = 10
    for digit in digits[:-1]:
        total = (int(digit) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(digits[-1])


# --- national ids, from their bare signs ---


def german_tax_id(digits: str) -> bool:
    """Of the first ten digits exactly one occurs twice or three times."""
    counts = sorted(digits[:10].count(sign) for sign in set(digits[:10]))
    return digits[0] != "0" and counts[-1] in (2, 3) and counts[:-1].count(1) == len(counts) - 1 and iso_mod11_10(digits)


def french_insee(signs: str) -> bool:
    """Check key of the thirteen signs before it; Corsica's 2A and 2B count as 19 and 18."""
    number = int(signs[:13].replace("2A", "19").replace("2B", "18"))
    return 97 - number % 97 == int(signs[13:])


def spanish_id(signs: str) -> bool:
    """DNI, or NIE with X, Y, Z for 0, 1, 2."""
    number = signs[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2")
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == signs[-1]


def italian_code(signs: str) -> bool:
    even = sum(int(sign, 36) - (0 if sign.isdigit() else 10) for sign in signs[1:15:2])
    odd = sum(_CF_ODD[sign] for sign in signs[0:15:2])
    return chr(65 + (odd + even) % 26) == signs[15]


def dutch_bsn(digits: str) -> bool:
    return int(digits) > 0 and weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def polish_pesel(digits: str) -> bool:
    day, month = int(digits[4:6]), int(digits[2:4]) % 20
    return 1 <= month <= 12 and 1 <= day <= 31 and weighted(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


def brazilian_cpf(digits: str) -> bool:
    def check(part: str) -> int:
        rest = weighted(part, range(len(part) + 1, 1, -1)) * 10 % 11
        return rest % 10

    return len(set(digits)) > 1 and check(digits[:9]) == int(digits[9]) and check(digits[:10]) == int(digits[10])


def belgian_number(digits: str) -> bool:
    """Mod 97 of the first nine; who was born from 2000 on has a 2 put before them."""
    key = int(digits[9:])
    return any(97 - int(century + digits[:9]) % 97 == key for century in ("", "2"))


def swiss_ahv(digits: str) -> bool:
    return weighted(digits, (1, 3) * 6 + (1,)) % 10 == 0


def swedish_number(digits: str) -> bool:
    return _is_date(digits[2:4], digits[4:6]) and luhn(digits)


def finnish_code(signs: str) -> bool:
    number = int(signs[:6] + signs[7:10])
    return _is_date(signs[2:4], signs[:2]) and "0123456789ABCDEFHJKLMNPRSTUVWXY"[number % 31] == signs[10]


def chinese_id(signs: str) -> bool:
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return _is_date(signs[10:12], signs[12:14]) and "10X98765432"[weighted(signs[:17], weights) % 11] == signs[17]


def turkish_id(digits: str) -> bool:
    d = [int(sign) for sign in digits]
    return d[0] > 0 and (7 * sum(d[0:9:2]) - sum(d[1:8:2])) % 10 == d[9] and sum(d[:10]) % 10 == d[10]


def australian_tfn(digits: str) -> bool:
    return weighted(digits, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def portuguese_nif(digits: str) -> bool:
    return digits[0] != "0" and (11 - weighted(digits[:8], range(9, 1, -1)) % 11) % 11 % 10 == int(digits[8])


def american_ssn(digits: str) -> bool:
    return digits[:3] not in ("000", "666") and digits[0] != "9" and digits[3:5] != "00" and digits[5:] != "0000"


def british_nino(signs: str) -> bool:
    return signs[:2] not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")


def always(signs: str) -> bool:
    return bool(signs)


def _is_date(month: str, day: str) -> bool:
    return 1 <= int(month) <= 12 and 1 <= int(day) <= 31


Check = Callable[[str], bool]
