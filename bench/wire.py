"""A small HTTP/1.1 load generator on asyncio: raw keep-alive connections, bounded in time, loopback only.

Run as a process of its own (``python -m bench.wire``), so that it shares no interpreter with the server it measures.
"""

import asyncio
import json
import random
import sys
import time
from dataclasses import dataclass, field
from typing import cast

import uvloop


@dataclass
class Tally:
    """Seconds of each answer, and how many had each status."""

    seconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    def summary(self, elapsed: float) -> dict[str, float | dict[str, int]]:
        ordered = sorted(self.seconds)
        count = len(ordered)
        return {
            "per_second": round(count / elapsed, 1),
            "p50_ms": round(ordered[count // 2] * 1000, 2),
            "p95_ms": round(ordered[int(count * 0.95)] * 1000, 2),
            "p99_ms": round(ordered[int(count * 0.99)] * 1000, 2),
            "statuses": {str(status): n for status, n in sorted(self.statuses.items())},
        }


class Connection(asyncio.Protocol):
    """One connection that sends the next request as soon as the last one is answered."""

    def __init__(self, requests: list[bytes], until: float, tally: Tally, done: asyncio.Future[None]) -> None:
        self._requests, self._until, self._tally, self._done = requests, until, tally, done
        self._place = random.randrange(len(requests))
        self._buffer = b""
        self._missing = -1
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._missing < 0:
            self._buffer += data
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._head(self._buffer[:end].lower())
            data, self._buffer = self._buffer[end + 4 :], b""
        self._missing -= len(data)
        if self._missing <= 0:
            self._answered()

    def _head(self, head: bytes) -> None:
        status = int(head[9:12])
        self._tally.statuses[status] = self._tally.statuses.get(status, 0) + 1
        start = head.find(b"content-length:")
        self._missing = int(head[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else 0

    def _answered(self) -> None:
        now = time.perf_counter()
        self._tally.seconds.append(now - self._sent)
        self._missing = -1
        if now >= self._until:
            self._transport.close()
            return
        self._next()

    def _next(self) -> None:
        self._place = (self._place + 1) % len(self._requests)
        self._sent = time.perf_counter()
        self._transport.write(self._requests[self._place])


async def drive(port: int, requests: list[bytes], connections: int, seconds: float) -> dict[str, object]:
    """Keeps ``connections`` busy for ``seconds``, after a warm-up of a fifth of it."""
    await _busy(port, requests, connections, seconds / 5)
    tally, elapsed = await _busy(port, requests, connections, seconds)
    return dict(tally.summary(elapsed))


async def _busy(port: int, requests: list[bytes], connections: int, seconds: float) -> tuple[Tally, float]:
    loop, tally, started = asyncio.get_running_loop(), Tally(), time.perf_counter()
    futures: list[asyncio.Future[None]] = []
    for _ in range(connections):
        done: asyncio.Future[None] = loop.create_future()
        futures.append(done)
        connection = Connection(requests, started + seconds, tally, done)
        await loop.create_connection(lambda connection=connection: connection, "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.wait(futures, timeout=seconds + 30)
    return tally, time.perf_counter() - started


def main() -> None:
    """Reads one JSON plan from standard input, prints one JSON result."""
    plan = json.load(sys.stdin)
    requests = [one.encode() for one in plan["requests"]]
    print(json.dumps(uvloop.run(drive(plan["port"], requests, plan["connections"], plan["seconds"]))))


if __name__ == "__main__":
    main()
