"""Prints as JSON how long it takes to import a library, and to have what tracks an event.

It is run in a fresh process with the name of the library, and imports nothing before that, so that
each library pays for all that it needs.
"""

import sys
import time

NOBODY = "http://127.0.0.1:9"  # to whom nothing is sent

name = sys.argv[1]
start = time.perf_counter()
library = __import__(name)
imported = time.perf_counter()
if name == "snowplow_logging":
    library.SnowplowHandler(NOBODY)
else:
    library.Tracker("shop", library.Emitter(NOBODY))
ready = time.perf_counter()
print(f'{{"import_ms": {(imported - start) * 1000}, "ready_ms": {(ready - start) * 1000}}}')
