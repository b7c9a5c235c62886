"""A chat server that answers every question after a fixed time, and counts how many are under way.

python -m bench.slow_server SECONDS     prints its port; GET /stats tells what it counted
"""

import asyncio
import hashlib
import json
import re
import sys
import time
from itertools import pairwise

__all__: list[str] = []

_HEAD = re.compile(r"content-length: (\d+)", re.IGNORECASE)


class _Counted:
    """When how many requests were under way: whole request here to answer sent."""

    def __init__(self) -> None:
        self.changes: list[tuple[float, int]] = []
        self.now = 0
        self.asked = 0

    def change(self, by: int) -> None:
        self.now += by
        self.asked += by > 0
        self.changes.append((time.perf_counter(), self.now))

    def stats(self, delay: float) -> dict[str, float]:
        """The mean from two answers' time after the first request to the arrival of the last."""
        times = [moment for moment, _ in self.changes]
        came = [b[0] for a, b in zip([(0.0, 0), *self.changes], self.changes, strict=False) if b[1] > a[1]]
        begin, end = times[0] + 2 * delay, came[-1]
        inside = [(moment, n) for moment, n in self.changes if begin <= moment <= end]
        area = sum(n * (after - moment) for (moment, n), (after, _) in pairwise(inside))
        span = inside[-1][0] - inside[0][0]
        return {
            "asked": self.asked,
            "mean": area / span,
            "peak": max(n for _, n in self.changes),
            "seconds": span,
        }


class _Connection(asyncio.Protocol):
    def __init__(self, counted: _Counted, delay: float) -> None:
        self._counted, self._delay = counted, delay
        self._read = bytearray()
        self._wanted = -1
        self._path = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        if self._wanted < 0:
            end = self._read.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._read[:end].decode("latin-1")
            del self._read[: end + 4]
            found = _HEAD.search(head)
            self._wanted, self._path = int(found[1]) if found else 0, head.split(" ")[1]
        if len(self._read) < self._wanted:
            return
        body = bytes(self._read)
        self._read.clear()
        self._wanted = -1
        if self._path.endswith("/stats"):
            self._send(json.dumps(self._counted.stats(self._delay)).encode())
            return
        self._counted.change(+1)
        asyncio.get_running_loop().call_later(self._delay, self._answer, _completion(body))

    def _answer(self, reply: bytes) -> None:
        self._counted.change(-1)
        self._send(reply)

    def _send(self, reply: bytes) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(reply)}\r\n\r\n"
        self._transport.write(head.encode() + reply)  # type: ignore[attr-defined]


def _completion(body: bytes) -> bytes:
    """A critique of some 300 tokens, another for each question; or the judge's answer."""
    if b"image_url" in body:
        segments = re.findall(rb"- segment (\d+):", body[:20_000])
        words = f"Step 1. {hashlib.sha256(body).hexdigest()}. " + "What is seen, and where it lies. " * 30
        lines = [f"SEGMENT {int(j)}: {'SPURIOUS' if int(j) % 2 else 'VALID'} — a thing" for j in segments]
        text = "\n".join([words, *lines])
    else:
        found = re.findall(rb"segments:? (\d+(?:, \d+)*)", body)[-1]
        said = [
            {"segment": j, "spurious": j % 2 == 1, "reason": "so said"} for j in map(int, found.split(b", "))
        ]
        text = json.dumps({"verdicts": said})
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 2000, "completion_tokens": 300}
    return json.dumps({"id": "1", "model": "slow", "choices": [choice], "usage": usage}).encode()


async def _serve(delay: float) -> None:
    counted = _Counted()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(counted, delay), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1])))
