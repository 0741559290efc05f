"""What the process says of itself: lines for people on a terminal, JSON elsewhere, on standard error."""

import logging
import sys
from contextvars import ContextVar
from uuid import UUID

import structlog
from structlog.typing import EventDict, WrappedLogger

_served: ContextVar[UUID | None] = ContextVar("served", default=None)


def serves(request_id: UUID) -> None:
    """From here on, each line of the task that serves this request has its id."""
    _served.set(request_id)


def is_shown(level: str) -> bool:
    return bool(structlog.get_logger().is_enabled_for(logging.getLevelNamesMapping()[level.upper()]))


def is_for_people() -> bool:
    return sys.stderr.isatty()


def configure(level: str) -> None:
    shown = logging.getLevelNamesMapping()[level.upper()]
    renderer: structlog.typing.Processor = structlog.dev.ConsoleRenderer() if is_for_people() else structlog.processors.JSONRenderer()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(shown),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        processors=[
            structlog.contextvars.merge_contextvars,
            _name_request,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
    )
    logging.getLogger("uvicorn.error").addFilter(_is_worth_a_line)
    logging.basicConfig(level=max(shown, logging.WARNING), stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s", force=True)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # what a client got wrong is told to the client


def _name_request(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    if "request_id" not in event and (request_id := _served.get()) is not None:
        event["request_id"] = str(request_id)
    return event


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Not what uvicorn says of each client that tries WebSocket first, with advice to install what is left out on purpose."""
    return not record.getMessage().startswith(("Unsupported upgrade request", "No supported WebSocket library"))
