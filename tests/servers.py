"""A real HTTP server that speaks chat completions, and misbehaves when told to."""

import asyncio
import itertools
import json
import re
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

_numbers = itertools.count()

Behaviour = Callable[["Asked"], "Response | None"]
"""What to do with a request: a response of its own, or None for a proper answer."""


@dataclass(frozen=True)
class Asked:
    """One request: its body, and how often the same body was sent before."""

    body: dict[str, Any]
    before: int

    @property
    def is_judge(self) -> bool:
        return "You read critiques" in json.dumps(self.body["messages"])

    @property
    def prompt(self) -> str:
        content = self.body["messages"][-1]["content"]
        return content if isinstance(content, str) else content[0]["text"]

    @property
    def segment_ids(self) -> list[int]:
        return [int(j) for j in re.findall(r"segments:? (\d+(?:, \d+)*)", self.prompt)[-1].split(", ")]


@dataclass
class ChatServer:
    """What the server was asked, by the user prompt of the question, and which whole answers it sent."""

    url: str = ""
    behave: Behaviour = lambda asked: None
    requests: Counter[str] = field(default_factory=Counter)
    sent: dict[str, str] = field(default_factory=dict)  # id of a whole answer → user prompt
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    models: list[str] | Response | None = None  # what it lists; None: it lists none

    async def list_models(self, request: Request) -> Response:
        if self.models is None:
            return failure(404, "no such address")
        if isinstance(self.models, Response):
            return self.models
        return JSONResponse({"object": "list", "data": [{"id": m, "object": "model"} for m in self.models]})

    async def chat(self, request: Request) -> Response:
        raw = await request.body()
        body = json.loads(raw)
        asked = Asked(body, self.requests[Asked(body, 0).prompt])
        self.requests[asked.prompt] += 1
        self.bodies.append(asked.body)
        self.headers.append(dict(request.headers))
        self.urls.append(str(request.url))
        response = self.behave(asked)
        if isinstance(response, Late):
            await asyncio.sleep(response.seconds)
        if response is None:
            response = completion(asked, answer(asked))
        if "x-answer" in response.headers:
            self.sent[response.headers["x-answer"]] = asked.prompt
        return response


def answer(asked: Asked) -> str:
    """A proper answer: odd segments are spurious, and the judge reads the critic's lines."""
    if not asked.is_judge:
        words = {True: "SPURIOUS — a patch", False: "VALID — a stroke"}
        named = re.search(r"answer was\n\n<class [0-9a-f]+>\n(.*)\n</class", asked.prompt)
        return "\n".join(
            [
                f"Step 1. About {named and named[1]}.",
                *(f"SEGMENT {j}: {words[j % 2 == 1]}" for j in asked.segment_ids),
            ]
        )
    lines = dict(re.findall(r"^SEGMENT (\d+): (SPURIOUS|VALID)", asked.prompt, re.MULTILINE))
    found = [
        {"segment": j, "spurious": lines[str(j)] == "SPURIOUS", "reason": "so said"}
        for j in asked.segment_ids
    ]
    return json.dumps({"verdicts": found})


def completion(asked: Asked, text: str | None, finish: str = "stop", **message: Any) -> Response:
    """A whole chat completion with 1,000 tokens in and 100 out."""
    number = f"chatcmpl-{next(_numbers)}"
    body = {
        "id": number,
        "object": "chat.completion",
        "model": f"{asked.body['model']}-2024",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, **message},
                "finish_reason": finish,
            }
        ],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
    }
    return JSONResponse(body, headers={"x-answer": number})


def failure(status: int, message: str, *, headers: dict[str, str] | None = None, **error: Any) -> Response:
    return JSONResponse({"error": {"message": message, **error}}, status, headers)


class Late(Response):
    """A whole answer that comes too late."""

    def __init__(self, seconds: float) -> None:
        super().__init__(b"{}", media_type="application/json")
        self.seconds = seconds


def cut(asked: Asked) -> Response:
    """A proper answer whose connection breaks in the middle."""
    whole = bytes(completion(asked, answer(asked)).body)

    async def half() -> AsyncIterator[bytes]:
        yield whole[: len(whole) // 2]
        raise ConnectionResetError  # uvicorn closes the connection without the last chunk

    return StreamingResponse(half(), media_type="application/json")


@contextmanager
def chat_server(behave: Behaviour = lambda asked: None) -> Iterator[ChatServer]:
    """Serve on a free port in a thread until the block ends."""
    state = ChatServer(behave=behave)
    routes = [
        Route("/v1/chat/completions", state.chat, methods=["POST"]),
        Route("/v1/models", state.list_models),
        Route("/openai/deployments/{name}/chat/completions", state.chat, methods=["POST"]),
        Route("/openai/v1/chat/completions", state.chat, methods=["POST"]),
    ]
    app = Starlette(routes=routes)
    config = uvicorn.Config(
        app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1, date_header=False
    )
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    state.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            threading.Event().wait(0.005)
        yield state
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
