"""Celery: tasks log events with the subject of who sent them, and workers deliver at their end."""

from __future__ import annotations

import json
import logging
from importlib import import_module
from typing import Any, Final

from snowplow_logging.flushes import flush
from snowplow_logging.formatter import event_json
from snowplow_logging.handler import SnowplowHandler
from snowplow_logging.json_data import plain_json
from snowplow_logging.kept import keep_in_records
from snowplow_logging.reporting import report_seldom
from snowplow_logging.surroundings import Bound, enter, leave, surroundings

__all__ = ["install"]

_HEADER: Final = "snowplow_logging"
_LAYER: Final = "_snowplow_logging_layer"

# Whose handlers Celery takes away, where it sets up logging in its own way.
_HIJACKED: Final = (None, "celery", "celery.task", "celery.redirected")


def install(app: Any) -> None:
    """Have an application's tasks and workers do what events need.

    * A task has the subject and the entities that were bound where it was sent
      (`subject_context`, the middleware of `snowplow_logging.web`, another task). They go in the
      message's headers, as JSON.
    * A worker's process flushes all handlers when it ends, for those of the pool `prefork` end in
      a way that runs no handler at exit.
    * The Snowplow handlers that the program had given to the root logger are there again when
      Celery has set up logging in its own way (`worker_hijack_root_logger`), with the root
      logger's level, and so they are for the loggers of tasks. Celery's console shows no more than
      before: its own handlers take the level of the worker.

    Where a receiver of the signal `setup_logging` configures logging, Celery does not, and there is
    nothing to put back.

    Args:
        app: The Celery application. Celery's signals are those of the process, so that one call
            serves all applications of it.

    Raises:
        ImportError: celery is not installed.
        TypeError: It is no Celery application.
    """
    if not hasattr(app, "task") or not hasattr(app, "conf"):
        raise TypeError(f"app is {app!r}; give a Celery application")
    try:
        signals: Any = import_module("celery.signals")
    except ImportError as error:
        raise ImportError(f"snowplow_logging.celery needs celery: {error}") from error
    keep_in_records()
    _logging_of_program.keep()  # for what sets up logging without being a worker, as `beat` does
    for signal, receiver in (
        (signals.before_task_publish, _send),
        (signals.task_prerun, _begin),
        (signals.task_postrun, _end),
        (signals.worker_process_shutdown, _deliver),
        (signals.worker_shutdown, _deliver),
        (signals.celeryd_init, _logging_of_program.keep),
        (signals.after_setup_logger, _logging_of_program.restore),
        (signals.after_setup_task_logger, _logging_of_program.restore_for_tasks),
    ):
        signal.connect(receiver, weak=False, dispatch_uid=f"snowplow_logging {receiver.__name__}")


def _send(headers: dict[str, Any] | None = None, **_: Any) -> None:
    """Put into a message's headers what is bound where it is sent."""
    layer = surroundings()
    if layer is None or headers is None:
        return
    bound = layer.bound()
    fields: dict[str, Any] = {"subject": {}, "context": []}
    for name, value in bound.subject.items():
        if (plain := _plain(value, name)) is not None:
            fields["subject"][name] = plain
    for entity in bound.context:
        if (plain := _plain(entity, "an entity")) is not None:
            fields["context"].append(plain)
    headers[_HEADER] = fields


def _plain(value: Any, name: str) -> Any:
    """Return what JSON can hold of a value that is bound; None, and a report, where it cannot."""
    try:
        return json.loads(event_json({"value": plain_json(value)}))["value"]
    except Exception as error:  # noqa: BLE001 - it may be anything, and the task is worth more
        report_seldom("celery", f"a task was sent without {name} of its subject: {error!r}")
        return None


def _begin(task: Any = None, **_: Any) -> None:
    """Bind what a message's headers hold while its task runs."""
    fields = task.request.get(_HEADER)
    if isinstance(fields, dict):
        subject, context = fields.get("subject"), fields.get("context")
        own = Bound(
            subject if isinstance(subject, dict) else {},
            tuple(context) if isinstance(context, list) else (),
        )
        setattr(task.request, _LAYER, enter(own, None))


def _end(task: Any = None, **_: Any) -> None:
    entered = getattr(task.request, _LAYER, None)
    if entered is not None:
        leave(*entered)
        setattr(task.request, _LAYER, None)


def _deliver(**_: Any) -> None:
    flush()


class _Logging:
    """The Snowplow handlers that a program's loggers had before Celery set up its own logging."""

    def __init__(self) -> None:
        self._kept: dict[str | None, list[SnowplowHandler]] = {}
        self._level = logging.NOTSET

    def keep(self, **_: Any) -> None:
        """Remember them."""
        self._level = logging.getLogger().level
        for name in _HIJACKED:
            handlers = logging.getLogger(name).handlers
            self._kept[name] = [h for h in handlers if isinstance(h, SnowplowHandler)]

    def restore(self, loglevel: Any = None, **_: Any) -> None:
        """Give them back."""
        for name, handlers in self._kept.items():
            self._give(logging.getLogger(name), handlers, loglevel if name is None else None)

    def restore_for_tasks(self, logger: Any = None, loglevel: Any = None, **_: Any) -> None:
        """Give the root logger's to the logger of tasks, which Celery lets hand on nothing."""
        if logger is not None and not logger.propagate:
            self._give(logger, self._kept.get(None, []), loglevel)

    def _give(self, logger: logging.Logger, handlers: list[SnowplowHandler], loglevel: Any) -> None:
        if handlers and isinstance(loglevel, int) and self._level < loglevel:
            # An event at INFO is to pass, though the worker shows warnings alone.
            for handler in logger.handlers:
                if handler not in handlers:
                    handler.setLevel(max(handler.level, loglevel))
            logger.setLevel(self._level)
        for handler in handlers:
            if not handler._is_closed:  # noqa: SLF001 - by a program that has configured anew
                logger.addHandler(handler)  # once, however often


_logging_of_program: Final = _Logging()
"""One for all applications, for they share the loggers."""
