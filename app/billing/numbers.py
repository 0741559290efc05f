"""Money as people and JSON numbers have it. Everywhere else it is text with all of its decimals."""

import re
from decimal import Decimal

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
"""How a number is written to us. Python itself also reads `5_0` and the digits of other scripts."""


def plain(amount: Decimal) -> str:
    """Each digit of it, and no zeros at its end: nothing goes through a float here."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def json_number(amount: Decimal) -> bytes:
    """For clients that expect a number."""
    return plain(amount).encode()
