"""The version, which setup.py reads and every event names."""

__version__ = "0.1.0"
