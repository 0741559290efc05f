"""Comments in a stream while its upstream is silent (`KEEPALIVE`), so that nobody between here and the client takes the
connection for dead. Clients of server-sent events skip them (WHATWG HTML, 9.2.6).

One timer a stream looks whether more has come from the upstream than when it last looked; nothing is done for each event.
"""

import asyncio
from types import TracebackType
from typing import Self

from app.gateway.forwarding.transport import UpstreamAnswer
from app.gateway.metering.meter import StreamMeter
from app.gateway.receiving.client import Client

COMMENT = b": keep-alive\n\n"


class KeepAlive:
    """Within its block, the client gets a comment after at most `every` seconds of silence, and every so many seconds from
    then on: between whole events only, and not once the end of the stream is held back. `every` 0: never."""

    __slots__ = ("_answer", "_between_looks", "_client", "_meter", "_received", "_silent_looks", "_timer")

    def __init__(self, client: Client, answer: UpstreamAnswer, meter: StreamMeter, *, every: float) -> None:
        self._client = client
        self._answer = answer
        self._meter = meter
        self._between_looks = every / 2
        self._received = -1
        self._silent_looks = 0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        if self._between_looks:
            self._wait()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        self._received = self._answer.received
        self._timer = asyncio.get_running_loop().call_later(self._between_looks, self._look)

    def _look(self) -> None:
        is_silent = self._answer.received == self._received
        self._silent_looks = self._silent_looks + 1 if is_silent else 0
        if self._silent_looks % 2 and self._meter.is_between_events:
            self._client.interject(COMMENT)
        self._wait()
