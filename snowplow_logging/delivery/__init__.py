"""The way of events from the log call to the collector's answer."""
