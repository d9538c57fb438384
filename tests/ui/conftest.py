"""A run made by every kind of stage, a site that shows it, and a real browser in front of it.

`route` is a real run of a tiny model; it is made once for all test processes and must not be written to.
`copy_of_route` is a copy that a test may change. `client` asks a site without a network; `served` is the
address of a real server for a browser; `browser_page` is a page of real Chromium that has the token.
"""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient
from filelock import FileLock

from r1kit.ui.app import make_app
from tests.pipeline.tiny_route import make_route

TOKEN = "a-token-for-tests-only"
AXE_IMPACTS = ("serious", "critical")


@pytest.fixture(scope="session")
def route(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with every kind of stage. Read only."""
    shared = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent  # the processes of one test session share it
    folder = shared / "ui-route"
    with FileLock(shared / "ui-route.lock"):
        if not (folder / "out" / "report.html").is_file():
            folder.mkdir(exist_ok=True)
            recipe = make_route(folder)
            done = subprocess.run(
                [sys.executable, "-m", "r1kit", "run", str(recipe)], capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
    return folder / "out"


@pytest.fixture
def copy_of_route(route: Path, tmp_path: Path) -> Path:
    """A copy of the run for a test that changes it."""
    copy = tmp_path / "runs" / "out"
    shutil.copytree(route, copy)
    return copy


@pytest.fixture
def client_of(tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """Makes a client of a site that shows the given folders; it has the token already."""
    with ExitStack() as stack:

        def make(*roots: Path) -> TestClient:
            app = make_app(roots, token=TOKEN, cache=tmp_path / "cache")
            client = TestClient(app, base_url="http://127.0.0.1:8642", raise_server_exceptions=False)
            stack.enter_context(client)
            assert client.get(f"/?token={TOKEN}").status_code == 200
            return client

        yield make


@pytest.fixture
def client(client_of: Callable[..., TestClient], route: Path) -> TestClient:
    """A client of a site that shows `route`; the run's id is `out`."""
    return client_of(route)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts a real server for the given folders and returns its address, without a slash at the end."""
    servers: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(*roots: Path) -> str:
        listening = socket.create_server(("127.0.0.1", 0))
        app = make_app(roots, token=TOKEN, cache=tmp_path / "cache")
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        servers.append((server, thread))
        until = time.monotonic() + 60
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < until
            time.sleep(0.02)
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    yield start
    for server, thread in servers:
        server.should_exit = True
        thread.join(timeout=30)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A real Chromium: $R1KIT_CHROMIUM, the system's or Playwright's own; without one, tests are skipped."""
    sync_api = pytest.importorskip("playwright.sync_api")
    found = os.environ.get("R1KIT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except sync_api.Error as error:
            if os.environ.get("R1KIT_NEEDS_BROWSER"):
                raise
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page of a server by its path, with the token; errors in the page's scripts fail the test."""
    errors: list[str] = []
    contexts: list[Any] = []

    def open_at(address: str, path: str = "/", **options: Any) -> Any:
        context = chromium.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        context.set_default_timeout(60_000)  # the machine may be busy
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{address}/?token={TOKEN}")
        page.goto(address + path)
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert not errors


@pytest.fixture
def no_serious_faults() -> Callable[[Any], None]:
    """Asserts that axe finds nothing serious in a page as it is now."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    def check(page: Any) -> None:
        found = axe.run(page).response["violations"]
        serious = [
            f"{fault['id']} ({fault['impact']}): {fault['nodes'][0]['html'][:200]}\n"
            f"{fault['nodes'][0]['failureSummary']}"
            for fault in found
            if fault["impact"] in AXE_IMPACTS
        ]
        assert not serious, "\n".join(serious)

    return check
