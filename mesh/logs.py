"""Structured logs of every process: one line an event, for machines (JSON) or for people (console)."""

import logging
import traceback

import structlog

from mesh import call
from mesh.errors import MessengerError


def configure(service: str, *, level: str, style: str) -> None:
    """Sets up structlog, and the standard library's logging under it.

    Args:
        service: written into each line.
        level: least level logged, e.g. `INFO`.
        style: `json` or `console`.
    """

    def name_service(
        _logger: object, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        return {"service": service, **event}

    shared: list[structlog.typing.Processor] = [
        name_service,
        _name_call,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(_traceback),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if style == "json" else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
        )
    )
    logging.basicConfig(
        level=max(logging.WARNING, logging.getLevelNamesMapping()[level]), handlers=[handler], force=True
    )


def _traceback(exc_info: structlog.typing.ExcInfo) -> str:
    return "".join(_frames(exc_info[1])).rstrip("\n")


def _frames(error: BaseException) -> list[str]:
    """Where an error and its causes come from; of most only the type, for their texts quote data."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    told = f": {error}" if isinstance(error, MessengerError | OSError) else ""
    lines = [*_frames(before), "\nand then:\n\n"] if before else []
    lines += [*traceback.format_tb(error.__traceback__), f"{type(error).__qualname__}{told}\n"]
    if isinstance(error, BaseExceptionGroup):
        lines += [line for one in error.exceptions for line in _frames(one)]
    return lines


def _name_call(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Says for whom and in which trace, where the line belongs to a call."""
    current = call.current()
    if current.traceparent:
        event.setdefault("trace_id", call.trace_id(current.traceparent))
    if current.user_id:
        event.setdefault("user_id", current.user_id)
    return event
