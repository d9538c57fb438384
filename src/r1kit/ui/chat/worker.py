"""One model in a process of its own, for the chat: JSON lines in, JSON lines out.

    in   {"model": folder, "device": "auto"}            once
         {"ask": id, "messages": [...], "style": ..., "seed": ..., "params": {...}, "problem": {...} | null}
         {"stop": id}
    out  {"ready": {...}} or {"fault": sentence}         once
         {"id": id, "piece": text, "dim": bool}          as it is sampled; `dim` within the reasoning
         {"id": id, "done": {...}}, {"id": id, "verdict": {...}}, {"id": id, "fault": sentence}
         {"id": id, "end": true}                         once for each `ask` that is not stopped

Several questions are sampled at once, a token of each in turn, so that none waits. The process ends when its
input closes, which happens however the server ends. Run as `python -m r1kit.ui.chat.worker`.
"""

import contextlib
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from r1kit.errors import UserError

Json = dict[str, Any]
Send = Callable[[Json], None]

_FLUSH_SECONDS = 0.04  # pieces of text are collected for so long: an eye sees no more
_NICE = 19


class Talk:
    """A question that is being answered. `step` goes on with it."""

    def __init__(self, speaker: Any, ask: Json, send: Send) -> None:
        from r1kit.data.records import messages_from_json, problem_from_json
        from r1kit.sampling.engine import SamplingParams
        from r1kit.text.prompts import encode_prompt
        from r1kit.types import Problem

        self._id, self._send, self._seed, self._style = ask["ask"], send, ask["seed"], ask["style"]
        self._known = problem_from_json(ask["problem"]) if ask.get("problem") else None
        messages = messages_from_json(ask["messages"])
        blank = Problem(id="", kind="general", messages=messages)
        # the turns before the question are the conversation's, not the problem's
        self._problem = blank if self._known is None else replace(self._known, messages=messages)
        self._params = SamplingParams(**ask["params"], stop_token_ids=speaker.stop_token_ids)
        self._prompt = encode_prompt(self._problem, speaker.tokenizer, self._style)
        self._stream = speaker.engine.stream(self._prompt, self._params, self._seed)
        self._completion: Any = None
        self._pieces = self._split()
        self._held, self._dim, self._flushed = "", False, 0.0
        self._begun = 0.0  # when the prompt had been read

    def step(self) -> bool:
        """Sample on, a token or a few; False when the answer is complete."""
        piece = next(self._pieces, None)
        self._begun = self._begun or time.monotonic()
        if piece is None:
            self._flush()
            self._finish()
            return False
        if piece.dim != self._dim:
            self._flush()
            self._dim = piece.dim
        self._held += piece.text
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._flush()
        return True

    def close(self) -> None:
        """Stop sampling."""
        self._pieces.close()
        self._stream.close()

    def _split(self) -> Any:
        from r1kit.text.pieces import split_reasoning

        def chunks() -> Iterator[str]:
            self._completion = yield from self._stream

        yield from split_reasoning(chunks())

    def _flush(self) -> None:
        if self._held:
            self._send({"id": self._id, "piece": self._held, "dim": self._dim})
        self._held, self._flushed = "", time.monotonic()

    def _finish(self) -> None:
        from r1kit.text.template import explain_format, parse_response

        completion, seconds = self._completion, time.monotonic() - self._begun
        cut_off = completion.finish_reason == "length"
        required = self._known is not None and self._known.wants_reasoning
        parsed = parse_response(completion.text, self._style, reasoning_required=required)
        fault = explain_format(completion.text, self._style, reasoning_required=required, cut_off=cut_off)
        logprobs = completion.sampler_logprobs
        done = {
            "text": completion.text,
            "reasoning": parsed.reasoning if parsed.well_formed else None,
            "summary": parsed.summary if parsed.well_formed else None,
            "fault": fault,
            "cut_off": cut_off,
            "num_tokens": len(completion.token_ids),
            "tokens_per_second": (len(completion.token_ids) - 1) / seconds if seconds > 0.01 else None,
            "mean_logprob": sum(logprobs) / len(logprobs) if logprobs else None,
        }
        self._send({"id": self._id, "done": done})
        if self._known is None:
            self._send({"id": self._id, "end": True})
        else:  # a verifier may take seconds: others go on meanwhile
            threading.Thread(target=self._judge, daemon=True).start()

    def _judge(self) -> None:
        from r1kit.evaluate.grading import grade_rollouts
        from r1kit.types import Rollout

        assert self._known is not None
        rollout = Rollout(
            problem=self._known,
            step=0,
            group=0,
            sample=0,
            seed=self._seed,
            prompt_token_ids=self._prompt,
            completion=self._completion,
        )
        verdict: Json
        try:
            (graded,) = grade_rollouts([("", rollout)], self._style)
            verdict = {
                "answer": graded.answer,
                "correct": graded.correct,
                "lenient_correct": graded.lenient_correct,
            }
        except UserError as error:
            verdict = {"fault": str(error)}
        except Exception as error:  # a fault of a verifier must not leave the page waiting
            traceback.print_exc()
            verdict = {"fault": f"The verifier failed ({type(error).__name__}); the terminal has details."}
        self._send({"id": self._id, "verdict": verdict})
        self._send({"id": self._id, "end": True})


def main() -> None:
    """Answer questions until the input closes."""
    send = _make_send()
    inbox: queue.SimpleQueue[Json] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(inbox,), daemon=True).start()
    _step_back()
    spec = inbox.get()
    try:
        speaker = _load(spec)
    except Exception as error:
        if not isinstance(error, UserError):
            traceback.print_exc()
        send({"fault": load_fault(spec["model"], error)})
        return
    send({"ready": {"device": speaker.device, "dtype": speaker.dtype}})
    talks: dict[int, Talk] = {}
    while True:
        while not talks or not inbox.empty():
            _obey(inbox.get(), talks, speaker, send)
        for key, talk in list(talks.items()):
            if not _going(key, talk, send):
                del talks[key]


def load_fault(model: str, error: BaseException) -> str:
    """Why a model could not be loaded, in a sentence."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError) or "memory" in str(error).lower():
        return f"{model}: there is not enough memory for this model; end other programs, or ask fewer models."
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{model}: the model could not be loaded ({type(error).__name__}: {first})."


def _obey(message: Json, talks: dict[int, Talk], speaker: Any, send: Send) -> None:
    if "stop" in message:
        talk = talks.pop(message["stop"], None)
        if talk is not None:
            talk.close()
        return
    try:
        talks[message["ask"]] = Talk(speaker, message, send)
    except Exception as error:
        _say_fault(message["ask"], error, send)


def _going(key: int, talk: Talk, send: Send) -> bool:
    try:
        return talk.step()
    except Exception as error:
        _say_fault(key, error, send)
        with contextlib.suppress(Exception):  # what it sampled may be gone already
            talk.close()
        return False


def _say_fault(key: int, error: Exception, send: Send) -> None:
    from r1kit.sampling.engine import STREAM_KEY

    text = str(error)
    if not isinstance(error, UserError):
        traceback.print_exc()
        is_memory = isinstance(error, MemoryError) or "memory" in text.lower()
        what = (
            "not enough memory for a prompt and an answer of this length" if is_memory else "a fault of r1kit"
        )
        text = f"No answer: {what} ({type(error).__name__}). The terminal of `r1 ui` has details."
    text = text.removeprefix(f"request {STREAM_KEY}: ")  # the sampler's name for it
    send({"id": key, "fault": text[:1].upper() + text[1:]})
    send({"id": key, "end": True})


def _load(spec: Json) -> Any:
    from types import SimpleNamespace

    import torch

    from r1kit.errors import ModelError
    from r1kit.model.loading import load_model, load_tokenizer, mlp_elements, pick_device, stop_token_ids
    from r1kit.model.precision import compute_dtype
    from r1kit.sampling.local import make_engine

    path = spec["model"]
    if not Path(path).is_dir():
        raise ModelError(f"{path}: there is no such folder, so there is no model to ask.")
    torch.set_num_threads(1)  # a training run beside it needs the other cores
    device = pick_device(spec["device"])
    dtype = compute_dtype("auto", device, mlp_elements=mlp_elements(path))
    tokenizer = load_tokenizer(path)
    model = load_model(path, dtype=dtype, device=device)
    return SimpleNamespace(
        engine=make_engine(model, tokenizer, max_rows=16),
        tokenizer=tokenizer,
        stop_token_ids=stop_token_ids(path, tokenizer),
        device=device,
        dtype=dtype,
    )


def _make_send() -> Send:
    """Writes lines to what was the standard output; whatever a library prints goes to the error output."""
    out: IO[bytes] = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    lock = threading.Lock()

    def send(message: Json) -> None:
        try:
            with lock:
                out.write(json.dumps(message).encode() + b"\n")
                out.flush()
        except OSError:  # nobody reads any more
            os._exit(0)

    return send


def _read(inbox: "queue.SimpleQueue[Json]") -> None:
    for line in sys.stdin.buffer:
        inbox.put(json.loads(line))
    os._exit(0)  # the server has ended, or wants this to


def _step_back() -> None:
    """Take the processor only where no one else wants it."""
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    # Linux may group processes by session, and then compares the groups only
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(_NICE), encoding="ascii")


if __name__ == "__main__":
    main()
