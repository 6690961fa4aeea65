"""Servers of Kafka that the tests start on free ports, with their data in a folder of the test."""

from __future__ import annotations

import shutil
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from redis_servers import free_port

__all__ = ["KafkaServer"]

_SECONDS: Final = 90.0
_POM: Final = """
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tests</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>3.9.1</version>
    </dependency>
  </dependencies>
</project>
"""


@cache
def _java(folder: Path) -> list[str]:
    """Return the command that runs a class of Kafka, whose artifacts Maven brings."""
    if shutil.which("java") is None or shutil.which("mvn") is None:
        pytest.skip("there is no Java with Maven, which bring Kafka")
    folder.mkdir(exist_ok=True)
    pom, path = folder / "pom.xml", folder / "classpath"
    pom.write_text(_POM)
    command = ["mvn", "-q", "-B", "-f", pom, "dependency:build-classpath"]
    command += [f"-Dmdep.outputFile={path}"]
    for some in (["-o"], []):  # first with what is there already
        done = subprocess.run([*command, *some], check=False, capture_output=True, timeout=240)
        if done.returncode == 0:
            options = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
            return ["java", *options, "-cp", path.read_text()]
    pytest.skip("Maven cannot bring Kafka here")
    raise AssertionError


class KafkaServer:
    """A server that is its own controller.

    Args:
        folder: Where its data are.
        *lines: More lines of its configuration.
        listener: The security protocol by which clients reach it.
    """

    def __init__(self, folder: Path, *lines: str, listener: str = "PLAINTEXT") -> None:
        pytest.importorskip("confluent_kafka", reason="the client of Kafka is an extra")
        self._java = _java(folder.parent / "kafka-artifacts")
        self._folder = folder
        self.port = free_port()
        self.url = f"kafka://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._listener = listener
        controller, inside = free_port(), free_port()
        self.inside = f"127.0.0.1:{inside}"
        listeners = f"CLIENTS://127.0.0.1:{self.port},INSIDE://{self.inside}"
        folder.mkdir(exist_ok=True)
        self._configuration = folder / "server.properties"
        text = f"""
            process.roles=broker,controller
            node.id=1
            controller.quorum.voters=1@127.0.0.1:{controller}
            controller.listener.names=CONTROLLER
            listeners={listeners},CONTROLLER://127.0.0.1:{controller}
            advertised.listeners={listeners}
            inter.broker.listener.name=INSIDE
            listener.security.protocol.map=CONTROLLER:PLAINTEXT,INSIDE:PLAINTEXT,CLIENTS:{listener}
            log.dirs={folder / "data"}
            num.partitions=3
            offsets.topic.replication.factor=1
            offsets.topic.num.partitions=1
            transaction.state.log.replication.factor=1
            transaction.state.log.min.isr=1
            group.initial.rebalance.delay.ms=0
            log.flush.interval.messages=1
        """
        own = [line.strip() for line in text.strip().splitlines()]
        self._configuration.write_text("\n".join((*own, *lines, "")))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self._folder / "out").open("ab") as log:
            if not (self._folder / "data").exists():
                format_it = [*self._java, "kafka.tools.StorageTool", "format", "-t"]
                format_it += ["MkU3OEVBNTcwNTJENDM2Qg", "-c", str(self._configuration)]
                subprocess.run(format_it, check=True, stdout=log, stderr=log, timeout=_SECONDS)
            self._process = subprocess.Popen(
                [*self._java, "kafka.Kafka", str(self._configuration)],
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )
        try:
            self.wait()
        except BaseException:
            self.kill()
            raise

    def _client(self, kind: str, **options: object):
        import confluent_kafka

        common = {"bootstrap.servers": self.inside, "log_level": 0}
        return getattr(confluent_kafka, kind)({**common, **options})

    def wait(self) -> None:
        """Wait until it answers."""
        import confluent_kafka

        until = time.monotonic() + _SECONDS
        while True:
            client = self._client("Consumer", **{"group.id": "tests"})
            try:
                client.list_topics(timeout=1)
                return
            except confluent_kafka.KafkaException:
                assert time.monotonic() < until, (self._folder / "out").read_text()
            finally:
                client.close()

    def publish(self, body: bytes, topic: str = "snowplow", partition: int = -1) -> None:
        """Append a message, as another program would."""
        producer = self._client("Producer")
        producer.produce(topic, body, partition=partition)
        assert producer.flush(_SECONDS) == 0

    def messages(self, topic: str = "snowplow") -> list[tuple[dict, bytes]]:
        """Return the headers and the body of each message of a topic."""
        import confluent_kafka

        consumer = self._client("Consumer", **{"group.id": "tests", "enable.auto.commit": False})
        found = []
        try:
            for number in consumer.list_topics(topic, timeout=_SECONDS).topics[topic].partitions:
                one = confluent_kafka.TopicPartition(topic, number, 0)
                _, high = consumer.get_watermark_offsets(one, timeout=_SECONDS)
                consumer.assign([one])
                while high and (not found or found[-1][0] != (number, high - 1)):
                    message = consumer.poll(_SECONDS)
                    where = (number, message.offset())
                    found.append((where, dict(message.headers() or ()), message.value()))
        finally:
            consumer.close()
        return [(headers, body) for _, headers, body in found]

    def count(self, topic: str = "snowplow", group: str = "snowplow-relay") -> int:
        """Return how many messages a group has not committed."""
        import confluent_kafka

        consumer = self._client("Consumer", **{"group.id": group, "enable.auto.commit": False})
        try:
            numbers = consumer.list_topics(topic, timeout=_SECONDS).topics[topic].partitions
            wanted = [confluent_kafka.TopicPartition(topic, number) for number in numbers]
            waiting = 0
            for one in consumer.committed(wanted, timeout=_SECONDS):
                _, high = consumer.get_watermark_offsets(one, timeout=_SECONDS)
                waiting += high - max(0, one.offset)
            return waiting
        finally:
            consumer.close()

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_SECONDS)
            self._process = None
