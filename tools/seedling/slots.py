"""Values for the slots of a pattern: names, places, dates, amounts, codes. All invented or common knowledge."""

from __future__ import annotations

import random
import string
from collections.abc import Callable


def listed(text: str) -> list[str]:
    """The words of a text, as a list."""
    return text.split()


FIRST = listed("""
Anna Ben Carla Daniel Elena Felix Grace Henry Irene Jack Karen Liam Maria Nina Oscar Paula Quentin Rosa Samuel Tara
Uma Victor Wendy Xavier Yusuf Zoe Amir Bianca Chen Dora Emeka Fatima George Hana Ivan Jasmine Kofi Lena Mohammed
Nadia Olga Priya Ravi Sofia Tom Ursula Vera Will Yara Zack Alice Bruno Clara David Emma Frank Gina Hugo Ines Jonas
""")
LAST = listed("""
Adams Baker Clark Dietrich Evans Fischer Garcia Hughes Ito Jensen Khan Lopez Moreau Novak Okafor Patel Quinn Rossi
Smith Tanaka Ueda Vargas Walker Xu Young Zimmer Brown Costa Dubois Eriksen Ferrari Green Hill Ivanov Jones Kelly
""")
CITIES = listed("""
London Paris Berlin Madrid Rome Vienna Lisbon Dublin Oslo Warsaw Prague Athens Boston Chicago Denver Seattle Toronto
Sydney Tokyo Delhi Mumbai Lagos Nairobi Cairo Lima Bogota Leeds Bristol Lyon Munich Milan Porto Geneva Austin
""")
COUNTRIES = listed("""
France Germany Spain Italy Portugal Ireland Norway Sweden Poland Greece Turkey Egypt Kenya Nigeria India China Japan
Australia Canada Mexico Brazil Peru Chile Argentina Morocco Thailand Vietnam Austria Hungary
""")
CURRENCIES = ["euros", "dollars", "pounds", "yen", "rupees", "francs", "crowns", "pesos", "AUD", "EUR", "GBP", "USD", "CHF"]
PREFIXES = ("ORD", "INV", "TKT", "REF", "CASE", "PO", "RMA", "SO")
HOSTS = ("example.com", "mail.example", "post.example", "example.org")
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = listed("January February March April May June July August September October November December")
ITEMS = """
jacket|coat|dress|shirt|pair of jeans|sweater|pair of shoes|pair of boots|hat|scarf|handbag|backpack|
suitcase|watch|ring|necklace|phone|phone case|charger|laptop|tablet|keyboard|mouse|monitor|printer|
camera|pair of headphones|speaker|television|lamp|chair|desk|table|sofa|mattress|pillow|blanket|rug|
curtain|mirror|kettle|toaster|blender|coffee machine|microwave|oven|fridge|freezer|dishwasher|
washing machine|vacuum cleaner|iron|hair dryer|fan|heater|bicycle|helmet|tent|sleeping bag|football|
tennis racket|yoga mat|toy train|puzzle|board game|doll|book|cookbook|notebook|pen set|guitar|
drum kit|garden hose|lawn mower|drill|hammer|paint set|ladder|plant pot|bird feeder|dog bed|cat tree|
baby cot|stroller|car seat|perfume|face cream|razor|router|smart watch|game console|projector|
air fryer|rice cooker|frying pan|knife set|water bottle|lunch box|umbrella
""".replace("\n", "").split("|")
SHOP_HEADS = listed(
    "North River Blue Green Stone Bright Oak Maple Harbour Sun Silver Urban Happy Prime Corner Cedar Star Fox Lake"
)
SHOP_TAILS = listed("Mart Store Goods Outlet Market Books Shoes Electronics Home Foods Fashion Supply Toys Garden Sports Works")
COLOURS = ["red", "blue", "green", "black", "white", "grey", "brown", "yellow", "orange", "purple", "pink", "beige"]


def digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice(string.digits) for _ in range(count))


def letters(rng: random.Random, count: int) -> str:
    return "".join(rng.choice(string.ascii_uppercase) for _ in range(count))


def identifier(rng: random.Random) -> str:
    """An order number, ticket or reference in one of many shapes."""
    shape = rng.randrange(12)
    if shape < 2:
        return digits(rng, rng.randint(4, 10))
    if shape < 5:
        return f"{letters(rng, rng.randint(1, 4))}-{digits(rng, rng.randint(3, 8))}"
    if shape == 5:
        return f"{letters(rng, rng.randint(1, 3))}{digits(rng, rng.randint(3, 7))}"
    if shape == 6:
        return f"#{digits(rng, rng.randint(4, 8))}"
    if shape == 7:
        return f"{digits(rng, 3)}-{digits(rng, rng.randint(3, 7))}"
    if shape == 8:
        prefix, joint = rng.choice(PREFIXES), rng.choice(("-", "", "_", "/"))
        return f"{prefix}{joint}{digits(rng, rng.randint(4, 7))}"
    if shape == 9:
        return f"{letters(rng, 2)}-{rng.randint(2019, 2027)}-{digits(rng, rng.randint(3, 5))}"
    if shape == 10:
        return "".join(rng.choice(string.ascii_uppercase + string.digits) for _ in range(rng.randint(5, 9)))
    return "".join(rng.choice(string.ascii_lowercase + string.digits) for _ in range(rng.randint(5, 8)))


def amount(rng: random.Random) -> str:
    number = rng.choice(
        (
            f"{rng.randint(1, 99)}",
            f"{rng.randint(1, 9)}0",
            f"{rng.randint(1, 999)}.{digits(rng, 2)}",
            f"{rng.randint(100, 5000)}",
        )
    )
    form = rng.choice(("${}", "£{}", "€{}", "{} euros", "{} dollars", "{} pounds", "{} EUR", "{}"))
    return form.format(number)


def date(rng: random.Random) -> str:
    day, month = rng.randint(1, 28), rng.randrange(12)
    return rng.choice(
        (
            f"{day} {MONTHS[month]}",
            f"{MONTHS[month]} {day}",
            f"the {day}th",
            f"{rng.randint(2023, 2027)}-{month + 1:02d}-{day:02d}",
            f"{day}/{month + 1}",
        )
    )


def clock(rng: random.Random) -> str:
    return rng.choice(
        (
            f"{rng.randint(1, 12)} {rng.choice(('am', 'pm'))}",
            f"{rng.randint(0, 23):02d}:{rng.choice(('00', '15', '30', '45'))}",
        )
    )


def item(rng: random.Random) -> str:
    return rng.choice(ITEMS)


def person(rng: random.Random) -> str:
    return rng.choice(FIRST) if rng.random() < 0.6 else f"{rng.choice(FIRST)} {rng.choice(LAST)}"


def email(rng: random.Random) -> str:
    name = f"{rng.choice(FIRST)}{rng.choice(('.', '_', ''))}{rng.choice(LAST)}".lower()
    tail = rng.choice(("", digits(rng, 2)))
    return f"{name}{tail}@{rng.choice(HOSTS)}"


DRAW: dict[str, Callable[[random.Random], str]] = {
    "order": identifier,
    "code": lambda rng: rng.choice(
        (f"error {rng.randint(1, 999)}", f"code {letters(rng, 1)}{rng.randint(1, 99)}", f"E{rng.randint(1, 99)}")
    ),
    "amount": amount,
    "date": date,
    "time": clock,
    "name": person,
    "email": email,
    "city": lambda rng: rng.choice(CITIES),
    "country": lambda rng: rng.choice(COUNTRIES),
    "currency": lambda rng: rng.choice(CURRENCIES),
    "weekday": lambda rng: rng.choice(WEEKDAYS),
    "month": lambda rng: rng.choice(MONTHS),
    "item": item,
    "shop": lambda rng: f"{rng.choice(SHOP_HEADS)} {rng.choice(SHOP_TAILS)}",
    "colour": lambda rng: rng.choice(COLOURS),
    "size": lambda rng: rng.choice(("small", "medium", "large", "extra large", "38", "40", "42", "44", "10", "12")),
    "n": lambda rng: str(rng.choice((2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 20))),
    "phone": lambda rng: f"0{digits(rng, 3)} {digits(rng, 6)}",
    "word": lambda rng: item(rng).split()[0],
}


def draw(name: str, rng: random.Random) -> str:
    """A value for the slot; raises KeyError with the name when the slot does not exist."""
    return DRAW[name](rng)
