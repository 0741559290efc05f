"""How a serving process learns that it is to end: from SIGINT or SIGTERM, or as the process that watches over it is gone.

The first signal goes on to the server, which lets the calls in flight finish, for `SHUTDOWN_WAIT`. Later ones go no
further: a server that is told twice leaves at once, and calls that it has cut off would leave their holds behind.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

import structlog

log = structlog.get_logger(__name__)

_PARENT = "BILLING_PROXY_PARENT_PID"
_POLL = 0.5
"""Seconds."""
_FINISHING = b"Calls in flight are being let finish, for SHUTDOWN_WAIT at most.\n"


def watch_over_workers() -> None:
    """Makes this process the one without which those that it starts end. They learn it from the environment."""
    os.environ[_PARENT] = str(os.getpid())


def before_ending(then: Callable[[signal.Signals], None]) -> None:
    """Puts itself before the handlers of both signals: `then` is told of the first that arrives. The second is answered
    by one line, which is the parent's to say where there is one. Only a main thread has signals; elsewhere this does nothing."""
    if threading.current_thread() is not threading.main_thread():
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    arrived = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == 1:
            then(signal.Signals(number))
            handler = handlers[signal.Signals(number)]
            if callable(handler):
                handler(number, frame)
        elif arrived == 2 and not is_worker():
            os.write(sys.stderr.fileno(), _FINISHING)  # a buffered stream may be in the middle of a line just now

    for number in handlers:
        signal.signal(number, handle)


async def end_with_parent() -> None:
    """In a worker: ends it as SIGTERM would once its parent is gone, which was killed, as it would else have ended it first."""
    while is_worker():
        if os.getppid() != _parent():
            log.warning("the parent process is gone, so this worker ends")
            signal.raise_signal(signal.SIGTERM)
            return
        await asyncio.sleep(_POLL)


def is_worker() -> bool:
    """Whether another process watches over this one."""
    return _parent() not in (None, os.getpid())


def _parent() -> int | None:
    return int(os.environ[_PARENT]) if _PARENT in os.environ else None
