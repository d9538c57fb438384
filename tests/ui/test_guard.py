"""Who may ask: the token, the host, the origin; what every answer carries; how the server starts."""

import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.responses import PlainTextResponse

from r1kit.errors import UserError
from r1kit.ui import server
from r1kit.ui.app import make_app
from r1kit.ui.guard import POLICY
from tests.ui.conftest import TOKEN

ADDRESS = "http://127.0.0.1:8642"
LOOPBACK_NAMES = ("127.0.0.1:8642", "localhost:8642", "[::1]:8642", "localhost")


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    app = make_app([tmp_path], token=TOKEN, cache=tmp_path / "cache")

    def boom() -> None:
        raise RuntimeError("a secret of the traceback")

    def missing() -> None:
        (tmp_path / "nowhere").read_text()

    app.get("/boom")(boom)
    app.get("/missing")(missing)
    app.post("/change")(lambda: PlainTextResponse("changed"))
    return app


@pytest.fixture
def stranger(app: FastAPI) -> TestClient:
    return TestClient(app, base_url=ADDRESS, raise_server_exceptions=False, follow_redirects=False)


@pytest.fixture
def friend(stranger: TestClient) -> TestClient:
    assert stranger.get(f"/?token={TOKEN}").status_code == 303
    return stranger


@pytest.mark.parametrize("path", ["/", "/events", "/runs/out", "/static/ui.css", "/no/such/page", "/boom"])
@pytest.mark.parametrize("given", ["", "?token=", "?token=wrong", f"?token={TOKEN}x", "?token=%C3%A9%FF"])
def test_nothing_is_shown_without_the_token(stranger: TestClient, path: str, given: str) -> None:
    answer = stranger.get(path + given)
    assert answer.status_code == 403
    assert "Open the address that `r1 ui` printed" in answer.text
    assert TOKEN not in answer.text
    assert "set-cookie" not in answer.headers


def test_a_wrong_cookie_is_no_token(stranger: TestClient) -> None:
    for cookie in ("r1_token_8642=wrong", f"r1_token_8643={TOKEN}", f"token={TOKEN}"):
        assert stranger.get("/", headers={"cookie": cookie}).status_code == 403


def test_the_token_leaves_the_address_and_the_rest_of_it_stays(stranger: TestClient) -> None:
    answer = stranger.get(f"/runs/out?a=1&token={TOKEN}&b=x%26y&a=2&c=%E4%B8%80")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/runs/out?a=1&b=x%26y&a=2&c=%E4%B8%80"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"r1_token_8642={TOKEN};")
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert stranger.get("/").status_code == 200


@pytest.mark.parametrize("path", ["//evil.example/x", "/%2F/evil.example", "/\\evil.example"])
def test_the_redirect_stays_on_this_server(stranger: TestClient, path: str) -> None:
    answer = stranger.get(f"{ADDRESS}{path}?token={TOKEN}")
    location = answer.headers.get("location", "/")
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))


def test_a_wrong_token_is_not_helped_by_a_right_cookie(friend: TestClient) -> None:
    assert friend.get("/").status_code == 200
    assert friend.get("/?token=wrong").status_code == 403


@pytest.mark.parametrize("host", LOOPBACK_NAMES)
def test_it_answers_to_its_own_names(friend: TestClient, host: str) -> None:
    answer = friend.get(f"/?token={TOKEN}", headers={"host": host})
    assert answer.status_code == 303


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8642", "127.0.0.1.evil.example", "localhost.evil.example:1", "", "[::2]"],
)
def test_another_name_is_refused_even_with_the_token(friend: TestClient, host: str) -> None:
    answer = friend.get(f"/?token={TOKEN}", headers={"host": host})
    assert answer.status_code == 421
    assert "does not answer to the name" in answer.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),  # another port of this machine is another site
        ({"sec-fetch-site": "cross-site", "origin": ADDRESS}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"origin": ADDRESS}, 200),
        ({}, 200),  # no browser: the token has to do
    ],
)
def test_only_this_servers_pages_change_something(
    friend: TestClient, headers: dict[str, str], status: int
) -> None:
    answer = friend.post("/change", headers=headers)
    assert answer.status_code == status
    assert ("came from a page of another site" in answer.text) == (status == 403)


def test_a_change_needs_the_token_too(stranger: TestClient) -> None:
    assert stranger.post("/change", headers={"sec-fetch-site": "same-origin"}).status_code == 403


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/static/ui.js", 200),
        ("/static/nothing.js", 404),
        ("/static/..%2Fapp.py", 404),
        ("/no/such/page", 404),
        ("/runs/nothing", 404),
        ("/change", 405),
        ("/boom", 500),
        ("/missing", 500),
    ],
)
def test_every_answer_has_the_policy_and_no_traceback(friend: TestClient, path: str, status: int) -> None:
    answer = friend.get(path)
    assert answer.status_code == status
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "Traceback" not in answer.text
    assert "a secret of the traceback" not in answer.text
    if status >= 400:
        assert 'role="alert"' in answer.text


def test_refusals_have_the_policy_too(stranger: TestClient) -> None:
    for answer in (
        stranger.get("/"),
        stranger.get("/", headers={"host": "evil.example"}),
        stranger.post("/change", headers={"origin": "http://evil.example"}),
        stranger.get(f"/?token={TOKEN}"),
    ):
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_fault_of_r1kit_is_in_the_terminal_and_not_on_the_page(
    friend: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    answer = friend.get("/boom")
    assert "a fault of r1kit" in answer.text
    assert "a secret of the traceback" in caplog.text
    assert friend.get("/boom", headers={"accept": "application/json"}).json()["error"].startswith("This page")


# --- how the server starts -------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[str]]:
    """Starts a server that ends at once; what it told."""
    monkeypatch.setattr(server.uvicorn.Server, "run", lambda self, sockets: [one.close() for one in sockets])

    def start(**options: Any) -> list[str]:
        told: list[str] = []
        server.serve([tmp_path], cache=tmp_path / "cache", tell=told.append, **options)
        return told

    return start


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_other_machines_only_with_a_token(started: Callable[..., list[str]], host: str) -> None:
    with pytest.raises(UserError, match=f"--host {host} lets other machines in: choose a token"):
        started(host=host)


def test_a_short_token_is_refused(started: Callable[..., list[str]]) -> None:
    for token in ("", "short", "x" * 15):
        with pytest.raises(UserError, match="token must have 16 characters or more"):
            started(token=token)


def test_a_port_in_use_is_a_sentence_and_without_one_the_next_is_taken(
    started: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            UserError, match=rf"--port {port} on 127.0.0.1 can't be used: Address already in use"
        ):
            started(port=port)
        monkeypatch.setattr(server, "DEFAULT_PORT", port)
        told = started()
        assert f":{port}/" not in told[1]
        monkeypatch.setattr(server, "_TRIED_PORTS", 1)
        with pytest.raises(UserError, match=f"no free port from {port} on; give one with --port"):
            started()


def test_a_folder_that_is_not_there_is_a_sentence(started: Callable[..., list[str]], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder; give a run's folder"):
        server.serve([tmp_path / "nowhere"], cache=tmp_path / "cache")


def test_the_token_is_kept_for_its_user_alone(started: Callable[..., list[str]], tmp_path: Path) -> None:
    first, second = started(port=None)[1], started(port=None)[1]
    file = tmp_path / "cache" / "token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = file.read_text()
    assert len(token) >= 32
    assert first.endswith(f"/?token={token}")
    assert second.endswith(f"/?token={token}")
    assert started(token="a-token-of-my-own")[1].endswith("/?token=a-token-of-my-own")
    assert file.read_text() == token
