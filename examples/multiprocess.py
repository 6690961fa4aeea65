"""Multiprocessing: each process of a pool sends its own events, however it was started.

    python examples/multiprocess.py [ENDPOINT] [fork|spawn|forkserver]

The endpoint may also be in the variable SNOWPLOW_ENDPOINT. A forked process takes over the
parent's logging and none of its events; any other has to set up logging itself, which is what
the pool's `initializer` is for. It does no harm after a fork.
"""

import logging.config
import multiprocessing
import os
import sys

from snowplow_logging import SnowplowAdapter, subject_context

shop = SnowplowAdapter(logging.getLogger("shop"))


def configure(endpoint: str) -> None:
    """Set up logging in this process."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {
                "snowplow": {
                    "class": "snowplow_logging.SnowplowHandler",
                    "endpoint": endpoint,
                    "app_id": "pool",
                },
            },
            "root": {"level": "INFO", "handlers": ["snowplow"]},
        }
    )


def ship(order: int) -> int:
    """Ship an order; return the process that did."""
    with subject_context(user_id=f"u-{order}"):
        shop.struct_event(category="order", action="shipped", label=f"o-{order}")
    return os.getpid()


def main(endpoint: str, method: str | None = None) -> None:
    """Ship ten orders with two processes."""
    configure(endpoint)
    shop.struct_event(category="orders", action="started")
    context = multiprocessing.get_context(method)
    pool = context.Pool(2, initializer=configure, initargs=(endpoint,))
    pids = pool.map(ship, range(10))
    # Not `with`, nor `terminate`, which kill the processes with what they still have to send.
    pool.close()
    pool.join()
    shop.struct_event(category="orders", action="finished", value=len(set(pids)))


if __name__ == "__main__":
    default = os.environ.get("SNOWPLOW_ENDPOINT", "http://127.0.0.1:9090")
    main(*(sys.argv[1:] or [default]))
