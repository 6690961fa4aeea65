"""A collector that costs next to nothing: it counts what it gets and answers 200.

It runs in a process of its own, so that its work is never counted as a contender's, and opens one
port per latency. `GET /counts` on a port returns what that port has got so far.
"""

import asyncio
import json
import sys
from functools import partial

_OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


class _Sink(asyncio.Protocol):
    """One connection. It is kept open, and a request is answered when its body is complete."""

    def __init__(self, counts: dict[str, int], latency: float) -> None:
        self.counts, self.latency = counts, latency
        self.buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.buffer[:end])
            size = end + 4
            at = head.lower().find(b"content-length:")
            if at >= 0:
                size += int(head[at + 15 :].split(b"\r\n", 1)[0])
            if len(self.buffer) < size:
                return
            body = bytes(self.buffer[end + 4 : size])
            del self.buffer[:size]
            if head.startswith(b"GET /counts"):
                self._answer_counts()
                continue
            self.counts["requests"] += 1
            self.counts["bytes"] += len(body)
            self.counts["events"] += body.count(b'"eid"')
            if self.latency:
                asyncio.get_running_loop().call_later(self.latency, self._answer, _OK)
            else:
                self._answer(_OK)

    def _answer_counts(self) -> None:
        body = json.dumps(self.counts).encode()
        self._answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    def _answer(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)


async def _serve(latencies: list[float]) -> None:
    loop = asyncio.get_running_loop()
    servers = []
    for latency in latencies:
        counts = {"requests": 0, "events": 0, "bytes": 0}
        servers.append(await loop.create_server(partial(_Sink, counts, latency), "127.0.0.1", 0))
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    # It ends with the benchmark, whatever becomes of that: the pipe to it is closed then.
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve([float(latency) for latency in sys.argv[1:]]))
