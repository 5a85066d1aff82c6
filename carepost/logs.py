"""Logs: one line an event, for people on a terminal, as JSON for machines."""

import logging
import sys

import structlog


def set_up_logs(*, as_json: bool, level: str) -> None:
    """Configures structlog, and sends the standard library's warnings through the same."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _without_error_texts,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PlacesOnly("%(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


class _PlacesOnly(logging.Formatter):
    """What libraries log through the standard library, by the same rule as below."""

    def formatException(self, ei: tuple[type[BaseException], BaseException, object] | object) -> str:  # noqa: N802
        error = ei[1] if isinstance(ei, tuple) else None
        return f"{type(error).__name__} at {', '.join(_places(error))}" if isinstance(error, BaseException) else ""


def _without_error_texts(logger: object, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """An exception is logged by type and place: its text may quote a patient's data."""
    exc_info = event.pop("exc_info", None)
    if exc_info:
        error = sys.exception() if exc_info is True else exc_info
        if isinstance(error, BaseException):
            event["error"] = type(error).__name__
            event["where"] = list(_places(error))
    return event


def _places(error: BaseException) -> list[str]:
    places = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return places[-6:]
