"""gunicorn with two workers, forked from a process that has loaded the app and set up logging.

    SNOWPLOW_ENDPOINT=http://127.0.0.1:9090 gunicorn --config examples/gunicorn_config.py

No hook is needed: a forked worker has a queue and a sending thread of its own.
"""

from pathlib import Path

wsgi_app = "flask_app:app"
chdir = str(Path(__file__).parent)
bind = "127.0.0.1:8000"
preload_app = True
workers = 2
