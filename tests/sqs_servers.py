"""Servers that speak the protocol of SQS, on free ports, with their data in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from java_artifacts import ELASTICMQ, classpath
from server_process import ServerProcess

__all__ = ["SQSServer"]


class SQSServer(ServerProcess):
    """One of ElasticMQ, with the limits of SQS.

    Args:
        folder: Where its configuration is.
    """

    def __init__(self, folder: Path) -> None:
        pytest.importorskip("boto3", reason="the client of SQS is an extra")
        path = classpath(ELASTICMQ)
        if path is None:
            pytest.skip("there is no ElasticMQ; python tests/java_artifacts.py brings it")
        super().__init__(folder)
        self._path = path
        self.url = f"sqs://key:secret@127.0.0.1:{self.port}"
        (folder / "server.conf").write_text(
            f"""
            include classpath("application.conf")
            generate-node-address = false
            node-address {{ protocol = http, host = "127.0.0.1", port = {self.port} }}
            rest-sqs {{ bind-hostname = "127.0.0.1", bind-port = {self.port} }}
            rest-stats.enabled = false
            """
        )

    def command(self) -> list[Any]:
        """Return what starts it."""
        options = "-Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dconfig.file=server.conf"
        return ["java", *options.split(), "-cp", self._path, "org.elasticmq.server.Main"]

    def client(self) -> Any:
        """Return a client."""
        import boto3.session

        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
        session = boto3.session.Session(**keys, region_name="us-east-1")
        return session.client("sqs", endpoint_url=f"http://127.0.0.1:{self.port}")

    def answers(self) -> bool:
        """Tell whether it says which queues it has."""
        import botocore.exceptions

        try:
            self.client().list_queues()
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
            return False
        return True

    def _queue(self, client: Any, name: str | None) -> dict[str, str]:
        return {"QueueUrl": client.create_queue(QueueName=name or self.stream)["QueueUrl"]}

    def publish(self, body: str, name: str | None = None) -> None:
        """Put a message into a queue, as another program would."""
        client = self.client()
        client.send_message(**self._queue(client, name), MessageBody=body)

    def count(self, name: str | None = None) -> int:
        """Return how many messages are there, those that were received and not removed as well."""
        client = self.client()
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        queue = self._queue(client, name)
        found = client.get_queue_attributes(**queue, AttributeNames=names)["Attributes"]
        return sum(map(int, found.values()))

    def take(self, name: str | None = None) -> list[tuple[str, str]]:
        """Remove the messages of a queue; return each one's reason and body."""
        client, taken = self.client(), []
        queue = self._queue(client, name)
        ask = {**queue, "MaxNumberOfMessages": 10, "MessageAttributeNames": ["reason"]}
        while found := client.receive_message(**ask).get("Messages"):
            for one in found:
                reason = one.get("MessageAttributes", {}).get("reason", {}).get("StringValue", "")
                taken.append((reason, one["Body"]))
                client.delete_message(**queue, ReceiptHandle=one["ReceiptHandle"])
        return taken
