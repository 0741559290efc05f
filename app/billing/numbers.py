"""Money as JSON numbers, for clients that expect them. Everywhere else it is text."""

from decimal import Decimal


def json_number(amount: Decimal) -> bytes:
    """Each digit of it, and no zeros at its end: nothing goes through a float here."""
    text = f"{amount:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).encode()
