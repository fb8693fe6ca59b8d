"""Over real HTTP: a gateway whose every answer the test names, and a provider that speaks as OpenAI does."""

import json
import threading
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
ANSWER = "an-answer-nobody-else-sees"
PROMPT = "a-prompt-nobody-else-sees"

Reply = tuple[int, dict[str, str], bytes] | None


class Server(ThreadingHTTPServer):
    """Answers each POST with what `reply` says; None drops the connection without a word."""

    daemon_threads = True

    def __init__(self, reply: Callable[[str, bytes], Reply]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply = reply
        self.hangs_up = False
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        found = self.server.reply(self.path, body)
        if found is None:
            self.close_connection = True
            return
        status, headers, content = found
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        # Without having said so.
        self.close_connection = self.server.hangs_up


@contextmanager
def serving(server: ThreadingHTTPServer):
    """A server in a thread of its own, gone afterwards."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Gateway(Server):
    """Takes each event once, as the ledger does, unless `next` says otherwise for the next bodies."""

    def __init__(self) -> None:
        super().__init__(self._reply)
        self.next: list[Callable[[list[dict[str, Any]]], Reply | str]] = []
        self.always: Callable[[list[dict[str, Any]]], Reply | str] | None = None
        self.bodies: list[list[dict[str, Any]]] = []
        self.taken: dict[str, dict[str, Any]] = {}
        self.order: list[str] = []

    def _reply(self, path: str, body: bytes) -> Reply:
        assert path == "/api/v1/generations"
        events = [json.loads(line) for line in body.splitlines()]
        self.bodies.append(events)
        act = self.next.pop(0) if self.next else self.always
        found = act(events) if act else "take"
        return self.take(events) if found == "take" else found

    def take(self, events: list[dict[str, Any]], refuse: Any = lambda event: None) -> Reply:
        """202 for those that are not refused."""
        rejected = [
            {"index": place, "field": "cost", "error": "must be less", "code": "invalid"}
            for place, event in enumerate(events)
            if refuse(event)
        ]
        for event in events:
            if not refuse(event):
                self.taken[event["id"]] = event
                self.order.append(event["id"])
        accepted = len(events) - len(rejected)
        return answer(202 if accepted else 422, {"accepted": accepted, "rejected": rejected})


def answer(status: int, body: Any, **headers: str) -> Reply:
    """JSON, with headers such as Retry_After."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, {"Content-Type": "application/json", **named}, json.dumps(body).encode()


def error(status: int, code: str = "", **headers: str) -> Reply:
    """A refusal in the one shape of an error."""
    return answer(status, {"error": {"code": code, "message": "no", "field": ""}}, **headers)


class Provider(Server):
    """POST /chat/completions and /responses, streamed or not. `usage` None: a stream that tells none."""

    def __init__(self, usage: dict[str, Any] | None = USAGE) -> None:
        super().__init__(self._reply)
        self.usage = usage
        self.knows_stream_options = True
        self.fail_with = 0
        self.requests: list[dict[str, Any]] = []

    def _reply(self, path: str, body: bytes) -> Reply:
        request = json.loads(body)
        self.requests.append(request)
        if self.fail_with:
            return answer(self.fail_with, {"error": {"message": "no"}})
        if "stream_options" in request and not self.knows_stream_options:
            return answer(400, {"error": {"message": "unknown field stream_options"}})
        id = f"gen-{len(self.requests)}"
        made = _response(id, request, self.usage) if "responses" in path else _chat(id, request, self.usage)
        if not request.get("stream"):
            return answer(200, made)
        chunks = _events(id, request, self.usage) if "responses" in path else _chunks(id, request, self.usage)
        text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
        return 200, {"Content-Type": "text/event-stream"}, text.encode()


def _chat(id: str, request: dict[str, Any], usage: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": ANSWER}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    head = {"id": id, "object": "chat.completion", "created": 1795176000, "model": request["model"]}
    return {**head, "choices": [choice], **({"usage": usage} if usage else {})}


def _chunks(id: str, request: dict[str, Any], usage: Any) -> list[dict[str, Any]]:
    head = {"id": id, "object": "chat.completion.chunk", "created": 1795176000, "model": request["model"]}
    said = {"index": 0, "delta": {"role": "assistant", "content": ANSWER}, "finish_reason": None}
    done = {"index": 0, "delta": {}, "finish_reason": "stop"}
    chunks = [{**head, "choices": [said], "usage": None}, {**head, "choices": [done], "usage": None}]
    if usage and (request.get("stream_options") or {}).get("include_usage"):
        chunks.append({**head, "choices": [], "usage": usage})
    return chunks


def _response(id: str, request: dict[str, Any], usage: Any) -> dict[str, Any]:
    text = {"type": "output_text", "text": ANSWER, "annotations": []}
    message = {"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    told = usage and {
        "input_tokens": usage["prompt_tokens"],
        "output_tokens": usage["completion_tokens"],
        "total_tokens": usage["total_tokens"],
        "input_tokens_details": {"cached_tokens": 2},
        "output_tokens_details": {"reasoning_tokens": 1},
    }
    head = {"id": id, "object": "response", "created_at": 1795176000, "model": request["model"]}
    rest = {"status": "completed", "tools": [], "tool_choice": "auto", "parallel_tool_calls": True}
    return {**head, **rest, "output": [message], "usage": told, "user": request.get("user")}


def _events(id: str, request: dict[str, Any], usage: Any) -> list[dict[str, Any]]:
    started = {**_response(id, request, None), "status": "in_progress", "output": []}
    delta = {"type": "response.output_text.delta", "sequence_number": 1, "item_id": "m", "output_index": 0}
    return [
        {"type": "response.created", "sequence_number": 0, "response": started},
        {**delta, "content_index": 0, "delta": ANSWER, "logprobs": []},
        {"type": "response.completed", "sequence_number": 2, "response": _response(id, request, usage)},
    ]
