"""What spreadsheets do to text in a CSV file: a cell that begins like a formula is one, and they run it, whoever wrote it.

An apostrophe before it makes it text, in all of them. https://owasp.org/www-community/attacks/CSV_Injection
"""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""The signs, their full-width forms, and what is passed over before them."""


def as_text(cell: str) -> str:
    """The cell, which no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(FORMULA_STARTS) else cell
