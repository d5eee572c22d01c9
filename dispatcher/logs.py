"""Logs: set up once for a process, readable on a terminal, JSON lines for machines, never with a mail address.

Everything goes to standard error. `DISPATCHER_LOG=json` asks for JSON lines; `DISPATCHER_LOG_LEVEL` is `debug`,
`info` (the default), `warning` or `error`. Messages from libraries (Celery, uvicorn, alembic) go the same way.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from dispatcher.errors import Misconfigured

HIDDEN = "[address]"
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
#: These speak at `info` of things that only their own developers want to know.
CHATTY = ("aiosmtplib", "alembic", "asyncio", "celery", "kombu", "psycopg", "uvicorn")

# Quotation marks and backslashes end a word, so that a JSON line stays one. A match may begin only where a word
# does: without that the search would take quadratic time on a long line.
_WORD = r"""[^\s@<>()\[\]{},;:"`=/?&|\\]"""
_BREAK = r"""[\s@<>()\[\]{},;:"`=/?&|\\]"""
_ADDRESS = re.compile(rf"(?:(?<={_BREAK})|^){_WORD}+(?:@|%40){_WORD}+")


def setup(env: Mapping[str, str] | None = None, stream: TextIO | None = None) -> None:
    """Send the logs of this process to `stream` (standard error). Raises `Misconfigured` for an unknown level."""
    env = os.environ if env is None else env
    stream = sys.stderr if stream is None else stream
    level = _level(env.get("DISPATCHER_LOG_LEVEL") or "info")
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _renderer(env.get("DISPATCHER_LOG") == "json", colors=stream.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING) if level > logging.DEBUG else level)


def hide_addresses(text: str) -> str:
    """The text with every mail address replaced by `[address]`, URL-encoded ones too."""
    if "@" not in text and "%40" not in text:
        return text
    return _ADDRESS.sub(HIDDEN, text)


def _level(name: str) -> int:
    try:
        return LEVELS[name.lower()]
    except KeyError as error:
        raise Misconfigured(
            f"DISPATCHER_LOG_LEVEL is {name[:20]!r}.", remedy=f"Use one of {', '.join(LEVELS)}.", field="LOG_LEVEL"
        ) from error


def _renderer(as_json: bool, *, colors: bool) -> Processor:
    """Render an event as one line (and a traceback below it, if it has one), then hide addresses in all of it."""
    render: Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
    )

    def line(logger: WrappedLogger, method: str, event: EventDict) -> str:
        if as_json:
            event = structlog.processors.format_exc_info(logger, method, event)
        return hide_addresses(str(render(logger, method, event)))

    return line
