"""A model in a process of its own: what it says is what the engine samples, and it ends with its server."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from r1kit.sampling.engine import SampleRequest, SamplingParams, sample_all
from r1kit.sampling.local import make_engine
from r1kit.text.prompts import encode_prompt
from r1kit.types import Problem, PromptStyle
from r1kit.ui.chat.worker import load_fault
from tests.tiny_models import load_tiny, tiny_model

PATIENCE = 120  # seconds until something that has to happen counts as not happening
QUESTION = {"role": "user", "content": "What is 2 + 3?"}


class Process:
    """A worker, and its lines."""

    def __init__(self, model: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "r1kit.ui.chat.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        )
        self._timer = threading.Timer(PATIENCE, self.process.kill)
        self._timer.start()
        self.tell({"model": str(model), "device": "cpu"})
        self.first = self.hear()

    def tell(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line: dict[str, Any] = json.loads(self.process.stdout.readline())
        return line

    def ask(
        self, key: int, *, style: PromptStyle = "chat", length: int = 40, seed: int = 5, **more: Any
    ) -> None:
        params = {"max_tokens": length, "temperature": 1.0, "top_p": 1.0}
        question = {"messages": [QUESTION], "style": style, "seed": seed, "params": params, "problem": None}
        self.tell({"ask": key, **(question | more)})

    def hear_out(self, *keys: int) -> dict[int, list[dict[str, Any]]]:
        """All lines of these questions up to their ends."""
        found: dict[int, list[dict[str, Any]]] = {key: [] for key in keys}
        while not all(rows and rows[-1].get("end") for rows in found.values()):
            line = self.hear()
            found[line["id"]].append(line)
        return found

    def close(self) -> None:
        self._timer.cancel()
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def start() -> Iterator[Callable[[Path], Process]]:
    with ExitStack() as stack:

        def make(model: Path) -> Process:
            process = Process(model)
            stack.callback(process.close)
            return process

        yield make


def one(rows: list[dict[str, Any]], name: str) -> Any:
    (found,) = [row[name] for row in rows if name in row]
    return found


def streamed(rows: list[dict[str, Any]]) -> str:
    return "".join(row.get("piece", "") for row in rows)


@pytest.mark.slow
def test_answers_are_the_engines_and_several_at_once_stay_apart(
    start: Callable[[Path], Process], tmp_path: Path
) -> None:
    folder = tiny_model(tmp_path / "model")
    model, tokenizer = load_tiny(folder)
    engine = make_engine(model, tokenizer)
    process = start(folder)
    assert process.first == {"ready": {"device": "cpu", "dtype": "float32"}}
    asked: list[tuple[PromptStyle, int, int]] = [
        ("zero", 7, 1),
        ("chat", 60, 2),
        ("chat", 60, 2),
        ("zero", 60, 3),
    ]
    for key, (style, length, seed) in enumerate(asked):
        process.ask(key, style=style, length=length, seed=seed)
    found = process.hear_out(*range(len(asked)))
    ends = tuple(i for i in (tokenizer.eos_token_id,) if i is not None)
    for key, (style, length, seed) in enumerate(asked):
        problem = Problem(id="", kind="general", messages=(QUESTION,))  # type: ignore[arg-type]
        prompt = encode_prompt(problem, tokenizer, style)
        params = SamplingParams(length, stop_token_ids=ends)
        (completion,) = sample_all(engine, [SampleRequest(0, prompt, params, seed)])
        done = one(found[key], "done")
        assert streamed(found[key]) == done["text"] == completion.text
        assert done["num_tokens"] == len(completion.token_ids)
        assert done["cut_off"] == (completion.finish_reason == "length")
        assert done["mean_logprob"] == pytest.approx(
            sum(completion.sampler_logprobs) / len(completion.sampler_logprobs)
        )
    # a question that can't be asked leaves the process to others
    process.ask(10, length=10_000)
    assert "max_position_embeddings" in one(process.hear_out(10)[10], "fault")
    process.ask(11, messages=[{"role": "assistant", "content": "hm"}])
    assert "no user turn" in one(process.hear_out(11)[11], "fault")
    process.ask(12, length=5)
    assert one(process.hear_out(12)[12], "done")["num_tokens"] <= 5


@pytest.mark.slow
def test_right_and_wrong_are_the_evaluations_and_the_fault_is_said(
    start: Callable[[Path], Process], route: Path
) -> None:
    process = start(route / "warm" / "model")  # it has learned these answers by heart
    problem = {"id": "p", "kind": "math", "messages": [QUESTION], "ground_truth": "5"}
    for key, truth in enumerate(("5", "1234")):
        process.ask(key, style="zero", length=48, problem=problem | {"ground_truth": truth}, seed=1)
    process.ask(2, style="zero", length=6)
    found = process.hear_out(0, 1, 2)
    done = one(found[0], "done")
    assert done["fault"] is None
    assert one(found[0], "verdict")["answer"] == done["summary"]
    verdicts = [one(found[key], "verdict")["correct"] for key in (0, 1)]
    assert verdicts == [done["summary"].strip() == "5", False]
    assert one(found[2], "done")["fault"].endswith(
        "it was cut off at its last allowed token, before the model ended it."
    )
    assert one(found[2], "done")["cut_off"]


@pytest.mark.slow
def test_a_stopped_question_is_silent_and_the_end_of_the_server_is_the_end(
    start: Callable[[Path], Process], tmp_path: Path
) -> None:
    process = start(tiny_model(tmp_path / "model"))
    process.ask(0, length=900)
    assert process.hear()["id"] == 0
    process.tell({"stop": 0})
    process.ask(1, length=3)
    while (line := process.hear())["id"] == 0:  # what was on its way
        assert "done" not in line
    assert line["id"] == 1
    assert process.process.stdin is not None
    process.process.send_signal(signal.SIGSTOP)
    process.process.stdin.close()  # as it is when the server is killed
    process.process.send_signal(signal.SIGCONT)
    assert process.process.wait(PATIENCE) == 0


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_a_sentence(
    start: Callable[[Path], Process], tmp_path: Path
) -> None:
    missing = start(tmp_path / "nowhere").first["fault"]
    assert missing == f"{tmp_path / 'nowhere'}: there is no such folder, so there is no model to ask."
    folder = tiny_model(tmp_path / "strange")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "no-such-architecture"}))
    strange = start(folder).first["fault"]
    assert str(folder) in strange
    assert "no-such-architecture" in strange
    torn = tiny_model(tmp_path / "torn")
    weights = torn / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert str(torn) in start(torn).first["fault"]


def test_what_a_loading_error_becomes() -> None:
    assert load_fault("m", MemoryError()).startswith("m: there is not enough memory for this model")
    assert load_fault("m", RuntimeError("DefaultCPUAllocator: can't allocate memory: x")).startswith(
        "m: there is not enough memory"
    )
    assert load_fault("m", KeyError("x")) == "m: the model could not be loaded (KeyError: 'x')."
