"""The ways that a log record may go from the log call to a handler, as the standard library has."""

from __future__ import annotations

import logging
import logging.handlers
import pickle
from collections.abc import Callable

__all__ = ["WAYS", "by_pickle", "by_queue", "by_socket", "collecting"]


class _Collecting(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record."""
        self.records.append(record)


def collecting() -> tuple[logging.Logger, list[logging.LogRecord]]:
    """Return a logger that nobody else has, and the list of the records that it makes."""
    logger = logging.Logger("shop")
    handler = _Collecting()
    logger.addHandler(handler)
    return logger, handler.records


def by_queue(record: logging.LogRecord) -> logging.LogRecord:
    """Return what a `QueueHandler` queues for a listener in the same process."""
    return logging.handlers.QueueHandler(None).prepare(record)


def by_pickle(record: logging.LogRecord) -> logging.LogRecord:
    """Return what a listener gets of a `QueueHandler` in another process."""
    return pickle.loads(pickle.dumps(by_queue(record)))  # noqa: S301


def by_socket(record: logging.LogRecord) -> logging.LogRecord:
    """Return what the receiver in the logging cookbook makes of a `SocketHandler`'s bytes."""
    sent = logging.handlers.SocketHandler("127.0.0.1", None).makePickle(record)
    return logging.makeLogRecord(pickle.loads(sent[4:]))  # noqa: S301


WAYS: dict[str, Callable[[logging.LogRecord], logging.LogRecord]] = {
    "as it is": lambda record: record,
    "queue": by_queue,
    "pickle": by_pickle,
    "socket": by_socket,
    "queue, pickle": lambda record: by_pickle(by_queue(record)),
    "pickle, queue": lambda record: by_queue(by_pickle(record)),
    "pickle, pickle": lambda record: by_pickle(by_pickle(record)),
    "socket, queue": lambda record: by_queue(by_socket(record)),
}
"""Ways by which a record may come to a handler."""
