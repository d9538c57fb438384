"""Transport end to end: real servers with a real tiny model, on loopback, without the network.

`transformers serve` is started here. vLLM is where R1KIT_VLLM_PYTHON names a Python that has it. A random
model judges nothing, so what is tested is that questions go out and replies come back: its verdicts can't be
read, and that is counted; with a schema enforced (vLLM) they can be.
"""

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1kit.judges.chat_client import ChatClient, ServerConfig
from r1kit.judges.config import JudgeConfig
from r1kit.judges.judge import JudgeRequest
from r1kit.judges.opening import open_judge
from tests.data_stages import stage_context
from tests.tiny_models import tiny_model

VLLM_PYTHON = os.environ.get("R1KIT_VLLM_PYTHON")
START_SECONDS = 300

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def serving(command: list[str], port: int, log: Path) -> Iterator[str]:
    """The base_url of a server that was started and answers; it is ended with the block."""
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "VLLM_NO_USAGE_STATS": "1",
    }
    environment.pop("PYTHONPATH", None)
    with log.open("wb") as out:
        server = subprocess.Popen(
            command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not healthy(port):
                assert server.poll() is None, f"the server ended:\n{log.read_text()[-3000:]}"
                assert time.monotonic() < deadline, f"the server does not answer:\n{log.read_text()[-3000:]}"
                time.sleep(0.3)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as reply:
            return reply.status == 200
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def transformers_serve(model: Path, port: int) -> list[str]:
    main = "from transformers.cli.transformers import main; main()"
    where = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    return [sys.executable, "-c", main, "serve", str(model), *where]


def vllm_serve(model: Path, port: int) -> list[str]:
    assert VLLM_PYTHON is not None
    where = ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--max-model-len", "1024"]
    # a share of the machine's memory, which may be less free than the 0.92 that it wants unasked
    where += ["--gpu-memory-utilization", "0.3"]
    serve = [VLLM_PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]
    return [*serve, "--model", str(model), *where]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # vLLM's attention on a CPU knows heads of 32 and up
    folder = tiny_model(tmp_path_factory.mktemp("served"), "llama", hidden=128)
    # `transformers serve` takes a request's temperature only where the model's own settings say to sample
    settings = folder / "generation_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"do_sample": True}))
    return folder


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            transformers_serve,
            id="transformers",
            marks=pytest.mark.skipif(
                any(importlib.util.find_spec(name) is None for name in ("fastapi", "uvicorn", "accelerate")),
                reason="`transformers serve` needs fastapi, uvicorn and accelerate",
            ),
        ),
        pytest.param(
            vllm_serve,
            id="vllm",
            marks=pytest.mark.skipif(
                VLLM_PYTHON is None, reason="R1KIT_VLLM_PYTHON names no Python with vLLM"
            ),
        ),
    ],
)
def server(request, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Which server it is, and its address."""
    port = free_port()
    log = tmp_path_factory.mktemp("log") / "server.log"
    with serving(request.param(model, port), port, log) as url:
        yield request.param.__name__, url


def test_a_teacher_is_asked_and_the_same_seed_says_the_same(server, model: Path) -> None:
    _, url = server
    config = ServerConfig(base_url=url, model=str(model), temperature=1.0, max_tokens=8, concurrency=1)
    client = ChatClient(config)
    question = [{"role": "user", "content": "What is 12 + 7?"}]
    first, again, *others = client([question] * 6, seeds=[5, 5, 6, 7, 8, 9])
    assert first == again
    assert first.content
    assert {other.content for other in others} != {first.content}
    assert first.finish_reason == "length"
    assert client.counts == {"asked": 6}


def test_a_judge_is_asked_and_what_it_says_is_kept(server, model: Path, tmp_path: Path) -> None:
    kind, url = server
    config = JudgeConfig(base_url=url, model=str(model), max_tokens=160, concurrency=4)
    requests = [
        JudgeRequest("correctness", "What is 2 + 2?", answer, reference="4") for answer in ("4", "Five.")
    ]
    judge = open_judge(config, stage_context(tmp_path, model, {}))
    verdicts = judge(requests)
    judge.close()
    counts = judge.counts
    assert counts["failed"] == counts["over_budget"] == 0
    # a random model says nothing that can be read, and is asked twice more; a schema that is enforced can
    # still be cut off by max_tokens inside the analysis
    assert counts["missing"] == sum(verdict.score is None for verdict in verdicts)
    assert counts["asked"] == 2 + counts["unparsed"] - counts["missing"]
    if kind == "transformers_serve":
        assert counts == {"asked": 6, "unparsed": 6, "missing": 2}
    again = open_judge(config, stage_context(tmp_path, model, {}))
    assert again(requests) == verdicts
    assert again.counts["asked"] == 0
    assert again.counts["cached"] == counts["asked"]
    num_requests, num_tokens = config.ledger(next(tmp_path.glob("judge_replies/account-*.json"))).spent()
    assert num_requests == counts["asked"] + counts["retried"]
    assert num_tokens > 100 * num_requests  # the prompts alone, as the server counts them


def test_a_model_that_the_server_has_not_is_said_or_missing(server, tmp_path: Path) -> None:
    """vLLM says 404; `transformers serve` tries to load it and fails."""
    kind, url = server
    config = ServerConfig(base_url=url, model="nobody/nothing", retries=0, timeout_seconds=60)
    client = ChatClient(config)
    if kind == "vllm_serve":
        with pytest.raises(ValueError, match="refuses model"):
            client([[{"role": "user", "content": "Hello"}]])
    else:
        assert client([[{"role": "user", "content": "Hello"}]]) == [None]
