"""One line in the log for each call, by its row: JSON, or for people on a terminal. No word of what was asked or answered is in it,
nor of what went wrong: `GET /logs/{request_id}` has that.

Lines of calls that came together are written at once: a write for each would cost more than all the rest of it.
"""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import structlog

from app import logs
from app.catalog.routing import Catalog
from app.ledger.ended import Ended, Facts

log = structlog.get_logger(__name__)


class _Line(msgspec.Struct, omit_defaults=True):
    """`charge`: exact, in `CURRENCY`, as decimal text. `write_off`: what no credit was left for. `amends`: this call was ended
    as orphaned before. The first three are as all other lines have them."""

    event: str
    level: str
    timestamp: str
    request_id: str
    user_id: str
    api_key_id: int | None
    api: str | None
    model: str
    upstream: str | None
    is_stream: bool | None
    status: str
    end_reason: str | None
    http_status: int | None
    input_tokens: int | None
    output_tokens: int | None
    usage_source: str | None
    charge: str
    latency_ms: int | None
    first_token_ms: int | None
    write_off: str | None = None
    flags: list[str] | None = None
    amends: bool = False


class CallLines:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._is_for_people = logs.is_for_people()
        self._encode = msgspec.json.Encoder().encode

    def __call__(self, told: Sequence[tuple[Ended, Facts]]) -> None:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        lines = [self._line(now, ended, facts) for ended, facts in told]
        if self._is_for_people:
            for line in lines:
                log.info(line.event, **_shown(line))
            return
        sys.stderr.write("".join([self._encode(line).decode() + "\n" for line in lines]))
        sys.stderr.flush()

    def _line(self, now: str, ended: Ended, facts: Facts) -> _Line:
        target = self._catalog.snapshot.targets.get(facts.upstream_id or 0)
        return _Line(
            "call",
            "info",
            now,
            str(ended.outcome.request_id),
            facts.user_id,
            facts.api_key_id,
            facts.api,
            facts.model_name,
            target.name if target else None,
            facts.is_stream,
            facts.status,
            facts.end_reason,
            facts.http_status,
            facts.input_tokens,
            facts.output_tokens,
            facts.usage_source,
            facts.cost if ended.charge is None else f"{ended.charge:f}",
            facts.latency_ms,
            facts.first_token_ms,
            f"{ended.write_off:f}" if ended.write_off else None,
            facts.flags,
            not ended.is_new,
        )


def _shown(line: _Line) -> dict[str, object]:
    """Without what a terminal would take for a command: names are the client's own."""
    fields = msgspec.structs.asdict(line)
    for known in ("event", "level", "timestamp"):
        del fields[known]
    return {name: _printable(value) if isinstance(value, str) else value for name, value in fields.items() if value is not None}


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
