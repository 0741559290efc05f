"""The ledger's functions in the database, one a file, named as the file is.

Every migration that goes with a change to a file installs them all again; a change to a function's parameters or result
needs a `DROP FUNCTION` before that.
"""

from collections.abc import Callable
from pathlib import Path

SOURCES = {file.stem: file.read_text(encoding="utf-8") for file in sorted(Path(__file__).parent.glob("*.sql"))}
"""The statement that creates or replaces each function, by its name."""


def install(execute: Callable[[str], object]) -> None:
    """`execute` takes SQL as it is: a colon or a percent sign in it means nothing."""
    for source in SOURCES.values():
        execute(source)


def remove(execute: Callable[[str], object]) -> None:
    for name in SOURCES:
        execute(f"DROP FUNCTION IF EXISTS aigcspace.{name}")
