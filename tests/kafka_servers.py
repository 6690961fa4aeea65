"""Servers of Kafka that the tests start on free ports, with their data in a folder of the test."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from java_artifacts import KAFKA, classpath
from server_process import ServerProcess, free_port

__all__ = ["KafkaServer"]

_SECONDS: Final = 90.0
_OPTIONS: Final = "-Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1".split()


class KafkaServer(ServerProcess):
    """A server that is its own controller.

    Args:
        folder: Where its data are.
        *lines: More lines of its configuration.
        listener: The security protocol by which clients reach it.
        certificate: A file of a certificate and its key; with it clients reach it by TLS as well.
    """

    def __init__(
        self,
        folder: Path,
        *lines: str,
        listener: str = "PLAINTEXT",
        certificate: Path | None = None,
    ) -> None:
        pytest.importorskip("confluent_kafka", reason="the client of Kafka is an extra")
        path = classpath(KAFKA)
        if path is None:
            pytest.skip("there is no Kafka; python tests/java_artifacts.py brings it")
        super().__init__(folder)
        self._java = ["java", *_OPTIONS, "-cp", path]
        self.url = f"kafka://127.0.0.1:{self.port}"
        self.inside = f"127.0.0.1:{free_port()}"
        listeners = f"CLIENTS://127.0.0.1:{self.port},INSIDE://{self.inside}"
        if certificate is not None:
            self.certificate = certificate
            tls = f"127.0.0.1:{free_port()}"
            listeners += f",TLS://{tls}"
            self.tls_url = f"kafka://{tls}?security.protocol=SSL"
            where = "listener.name.tls.ssl.keystore"
            lines = (*lines, f"{where}.type=PEM", f"{where}.location={certificate}")
        controller = f"127.0.0.1:{free_port()}"
        data = folder / "data"
        text = f"""
            process.roles=broker,controller
            node.id=1
            controller.quorum.voters=1@{controller}
            controller.listener.names=CONTROLLER
            listeners={listeners},CONTROLLER://{controller}
            advertised.listeners={listeners}
            inter.broker.listener.name=INSIDE
            listener.security.protocol.map=CONTROLLER:PLAINTEXT,INSIDE:PLAINTEXT,CLIENTS:{listener},TLS:SSL
            log.dirs={data}
            num.partitions=3
            offsets.topic.replication.factor=1
            offsets.topic.num.partitions=1
            transaction.state.log.replication.factor=1
            transaction.state.log.min.isr=1
            group.initial.rebalance.delay.ms=0
            log.flush.interval.messages=1
        """
        own = [line.strip() for line in text.strip().splitlines()]
        (folder / "server.properties").write_text("\n".join((*own, *lines, "")))
        # What its own tool for new folders writes, which takes another start of Java.
        data.mkdir(exist_ok=True)
        identity = "version=1\nnode.id=1\ncluster.id=MkU3OEVBNTcwNTJENDM2Qg\n"
        (data / "meta.properties").write_text(identity)

    def command(self) -> list[Any]:
        """Return what starts it."""
        return [*self._java, "kafka.Kafka", "server.properties"]

    def answers(self) -> bool:
        """Tell whether it says which topics it has."""
        import confluent_kafka

        client = self._client("Consumer", **{"group.id": "tests"})
        try:
            client.list_topics(timeout=1)
        except confluent_kafka.KafkaException:
            return False
        finally:
            client.close()
        return True

    def _client(self, kind: str, **options: object):
        import confluent_kafka

        common = {"bootstrap.servers": self.inside, "log_level": 0}
        return getattr(confluent_kafka, kind)({**common, **options})

    def publish(self, body: bytes, partition: int = -1) -> None:
        """Append a message, as another program would."""
        producer = self._client("Producer", **{"message.max.bytes": 2_000_000})
        producer.produce(self.stream, body, partition=partition)
        assert producer.flush(_SECONDS) == 0

    def messages(self, topic: str | None = None) -> list[tuple[dict, bytes]]:
        """Return the headers and the body of each message of a topic."""
        import confluent_kafka

        topic = topic or self.stream
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

    def count(self) -> int:
        """Return how many messages the relays have not committed."""
        import confluent_kafka

        topic, group = self.stream, "snowplow-relay"

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
