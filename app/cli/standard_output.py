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


def guard() -> None:
    """Puts the guard in place of `sys.stdout`, which must be a file's. Its letters that a terminal's encoding hasn't got are escaped."""
    plain = sys.stdout
    if isinstance(plain, io.TextIOWrapper) and not isinstance(plain, _Guarded):
        plain.flush()
        buffered, encoding, by_line = plain.buffer, plain.encoding, plain.line_buffering
        plain.detach()
        sys.stdout = _Guarded(buffered, encoding, "backslashreplace", line_buffering=by_line)


def flush() -> None:
    """Raises `OutputLostError`, here and not at the end of the process, which would say it in its own words."""
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
