"""A small chat-completions server on loopback, which misbehaves where a test wants it to."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Raw:
    """A reply as it goes over the wire. `hangs_up`: the connection is closed before anything is sent."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs_up: bool = False


# what a test's function returns: the content of the reply, a status code, bytes that are sent as they are and
# break off, or all of it
Answer = str | int | bytes | dict[str, Any] | Raw


class ChatServer:
    """`requests` are the bodies that came in; `url` is the base_url for a client."""

    def __init__(self, answer: Callable[[dict[str, Any]], Answer]) -> None:
        self.requests: list[dict[str, Any]] = []
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server.lock:
                    server.requests.append(body)
                reply = answer(body)
                if isinstance(reply, Raw) and reply.hangs_up:
                    self.close_connection = True
                    return
                status = reply if isinstance(reply, int) else 200
                payload = reply if isinstance(reply, bytes) else b""
                if isinstance(reply, Raw):
                    status, payload = reply.status, reply.body
                elif not isinstance(reply, bytes):
                    payload = json.dumps(_payload(reply)).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                for name, value in reply.headers.items() if isinstance(reply, Raw) else ():
                    self.send_header(name, value)
                # a reply in bytes is one that breaks off: more is announced than is sent
                self.send_header("Content-Length", str(len(payload) + 5 * isinstance(reply, bytes)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"


def _payload(reply: Answer) -> Any:
    if isinstance(reply, int):
        return {"error": {"message": "scripted"}}
    message = {"role": "assistant", **(reply if isinstance(reply, dict) else {"content": reply})}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 60, "completion_tokens": 40, "total_tokens": 100}
    head = {"id": "x", "object": "chat.completion", "created": 0, "model": "m"}
    return {**head, "choices": [choice], "usage": usage}


@contextmanager
def chat_server(answer: Callable[[dict[str, Any]], Answer]) -> Iterator[ChatServer]:
    """Serve while the block runs; `answer` gets the body of each request."""
    server = ChatServer(answer)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
        thread.join()
