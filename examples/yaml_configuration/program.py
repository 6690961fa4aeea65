"""Logging configured by a YAML file, as it is or with the endpoint of this environment.

    python examples/yaml_configuration/program.py [ENDPOINT]

The endpoint may also be in the variable SNOWPLOW_ENDPOINT; without one it is the file's.
Reading YAML takes PyYAML, which the extra `yaml` brings.
"""

import logging.config
import os
import sys
from pathlib import Path

import yaml

from snowplow_logging import AddToCart

config = yaml.safe_load(Path(__file__).with_name("logging.yaml").read_text(encoding="utf-8"))
endpoint = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("SNOWPLOW_ENDPOINT")
if endpoint is not None:
    config["handlers"]["snowplow"]["endpoint"] = endpoint
logging.config.dictConfig(config)

logger = logging.getLogger("shop")
logger.info("put into the cart", extra={"snowplow": AddToCart(sku="s-1", quantity=2)})
logger.info(AddToCart(sku="s-2", quantity=1, currency="EUR", unit_price=19.95))
