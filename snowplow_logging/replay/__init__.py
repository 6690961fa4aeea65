"""Sends the events of log files and dead-letter files again, as they were first meant to be sent.

An event keeps its id, its times and all other values but the time of sending, so that Snowplow
sees an exact duplicate of one that had arrived after all. The files may come from anywhere: what
is in them is believed in nothing, and takes no more than its share of memory.
"""

from .giving_up import giving_up
from .resume_point import ReplayError
from .run import Replay
from .screen import Screen

__all__ = ["Replay", "ReplayError", "Screen", "giving_up"]
