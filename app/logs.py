"""What the process says of itself: lines for people on a terminal, JSON elsewhere, on standard error."""

import logging
import sys

import structlog


def configure(level: str) -> None:
    shown = logging.getLevelNamesMapping()[level.upper()]
    renderer: structlog.typing.Processor = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(shown),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
    )
    logging.getLogger("uvicorn.error").addFilter(_is_worth_a_line)
    logging.basicConfig(level=max(shown, logging.WARNING), stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s", force=True)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # what a client got wrong is told to the client


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Not what uvicorn says of each client that tries WebSocket first, with advice to install what is left out on purpose."""
    return not record.getMessage().startswith(("Unsupported upgrade request", "No supported WebSocket library"))
