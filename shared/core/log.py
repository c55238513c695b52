"""Structured logging: a stable event name, fields, and the correlation id of the work at hand."""

import json
import logging
import sys
from contextvars import ContextVar
from typing import Any

correlation: ContextVar[str] = ContextVar("correlation", default="")


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        if correlation.get():
            entry["correlation_id"] = correlation.get()
        entry |= getattr(record, "fields", {})
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class Log:
    """`log.info("run.started", run_id=...)`. Never pass secrets, prompts or tokens as fields."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: Any) -> None:
        self._logger.debug(event, extra={"fields": fields})

    def info(self, event: str, **fields: Any) -> None:
        self._logger.info(event, extra={"fields": fields})

    def warning(self, event: str, **fields: Any) -> None:
        self._logger.warning(event, extra={"fields": fields})

    def exception(self, event: str, **fields: Any) -> None:
        self._logger.exception(event, extra={"fields": fields})


def to_stderr(level: str = "INFO") -> None:
    """JSON lines on stderr, for processes that no Functions host logs for."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("azure", "httpx", "urllib3", "asyncio", "github", "msal"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
