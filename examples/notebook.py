"""A notebook or REPL: cells that can be run again, and that show what has become of the events.

Open it as a notebook (VS Code, or JupyterLab with Jupytext, which read `# %%` as cells), or run
`python -i examples/notebook.py`. SNOWPLOW_ENDPOINT names the collector.
"""

# %% Set up: running this cell again replaces the handler and doubles nothing.
import logging.config
import os

from snowplow_logging import PageView, SnowplowAdapter

logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {
            "snowplow": {
                "class": "snowplow_logging.SnowplowHandler",
                "endpoint": os.environ.get("SNOWPLOW_ENDPOINT", "http://127.0.0.1:9090"),
                "app_id": "notebook",
            },
        },
        "root": {"level": "INFO", "handlers": ["snowplow"]},
    }
)
[snowplow] = logging.getLogger().handlers
study = SnowplowAdapter(logging.getLogger("study"), subject={"user_id": "ada"})

# %% Log something.
study.struct_event(category="study", action="model trained", value=0.93)
logging.getLogger("study").info(PageView(page_url="https://wiki.example.com/study"))

# %% See that it has arrived: flush returns True, and stats counts it as sent.
print(snowplow.flush())
print(snowplow.stats)

# %% A bad event shows at once why it is one, and where it was logged.
study.struct_event(category="study", action="model trained", value="high")
print(snowplow.stats.invalid)
