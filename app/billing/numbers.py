"""Money as people and JSON numbers have it. Everywhere else it is text with all of its decimals."""

from decimal import Decimal


def plain(amount: Decimal) -> str:
    """Each digit of it, and no zeros at its end: nothing goes through a float here."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def json_number(amount: Decimal) -> bytes:
    """For clients that expect a number."""
    return plain(amount).encode()
