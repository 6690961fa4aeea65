"""The way of an event from the queue to the collector, cut into parts with one job each."""
