"""Takes out of a stream's events what is there only because the proxy asked for usage.

An upstream that was asked ends with an event of usage alone (the meter takes that one out), and until then says
`"usage":null` in each (https://platform.openai.com/docs/api-reference/chat/create, `stream_options`). Where that stands, and how
it is spaced, is the provider's own: the first event with choices tells. One that says it elsewhere too is left alone.
"""

import re

from app.gateway.protocols.texts import events_of

_NULL_USAGE = re.compile(rb',\s*"usage"\s*:\s*null(?=\s*[,}])')


class NullUsage:
    __slots__ = ("_said",)

    def __init__(self) -> None:
        self._said: bytes | None = None

    def stripped(self, events: bytes) -> bytes:
        """Whole events, as of an upstream that was not asked."""
        if self._said is None:
            first = next((line for line in events.splitlines() if line.find(b'"choices"') >= 0), None)
            if first is None:
                return events
            self._said = _said_in(first)
        return events.replace(self._said, b"") if self._said else events


def _said_in(line: bytes) -> bytes:
    """Empty where nothing is to be taken out. The bytes can't be a part of a text: quotes in those are escaped."""
    found = _NULL_USAGE.search(line)
    is_at_the_top = line.count(b'"usage"') == 1 and any("usage" in told for told in events_of(line))
    return found[0] if found and is_at_the_top else b""
