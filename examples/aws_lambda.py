"""AWS Lambda: the function flushes at its end, because Lambda freezes the process after it.

Deploy it with the handler `aws_lambda.handler` and the variable SNOWPLOW_ENDPOINT, or try it:

    python -c "import aws_lambda; print(aws_lambda.handler({'order_id': 'o-1'}, None))"
"""

import logging
import os
from typing import Any

from snowplow_logging import SnowplowAdapter, SnowplowHandler

# Lambda has a handler on the root logger already, so this one is added to it.
snowplow = SnowplowHandler(
    os.environ.get("SNOWPLOW_ENDPOINT", "http://127.0.0.1:9090"),
    app_id=os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "local"),
)
logging.getLogger().addHandler(snowplow)
logging.getLogger().setLevel(logging.INFO)
shop = SnowplowAdapter(logging.getLogger("shop"))


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Take an order, as Lambda calls it."""
    try:
        shop.struct_event(category="order", action="taken", label=event["order_id"])
        return {"statusCode": 200, "body": "thank you"}
    finally:
        # What is not delivered in time stays queued until the next call of this process.
        left = 3.0 if context is None else context.get_remaining_time_in_millis() / 1000 - 0.5
        snowplow.flush(max(0.0, left))
