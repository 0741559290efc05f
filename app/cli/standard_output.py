"""Standard output, as commands write to it: no letter makes a command fail, and what can't be written is told in one line."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import StartupError


class OutputLostError(StartupError):
    """What was to be printed is gone. Whatever the command did is done. `unread`: whoever reads has read enough, as in `| head`."""

    def __init__(self, refused: OSError) -> None:
        self.reason = os.strerror(refused.errno or 0)
        super().__init__(f"what this command says can't be written: {self.reason}")
        self.unread = refused.errno == errno.EPIPE


@contextmanager
def guarded() -> Iterator[None]:
    """Puts a guard in place of `sys.stdout`, for good: it raises `OutputLostError`, at the end of the block for what is left to be
    written, and escapes letters that the output's encoding hasn't got."""
    plain = sys.stdout
    if isinstance(plain, io.TextIOWrapper):  # a closed one is None
        encoding, by_line = plain.encoding, plain.line_buffering
        sys.stdout = _Guarded(plain.detach(), encoding, "backslashreplace", line_buffering=by_line)
    try:
        yield
    finally:
        flush()


def flush() -> None:
    """Raises `OutputLostError`."""
    if sys.stdout is not None:
        sys.stdout.flush()


class _Guarded(io.TextIOWrapper):
    def write(self, text: str, /) -> int:
        with _told():
            return super().write(text)

    def flush(self) -> None:
        with _told():
            super().flush()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as refused:
        _discard_the_rest()
        raise OutputLostError(refused) from refused


def _discard_the_rest() -> None:
    """What is buffered would be tried again at the end of the process."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
