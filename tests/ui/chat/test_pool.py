"""The processes of the chat: how many, which one ends, and what the page is told when one dies."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from r1kit.ui.chat import pool as pool_module
from r1kit.ui.chat.pool import ModelSpec, Pool, memory_fault

FAKE = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))
PATIENCE = 60  # seconds until something that has to happen counts as not happening


@pytest.fixture
def folder_of(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        (tmp_path / name).mkdir(exist_ok=True)
        return tmp_path / name

    return make


def run(body: Callable[[Pool], Awaitable[None]], **options: Any) -> None:
    """Run a test's body with a pool of fake workers, and end them."""

    async def whole() -> None:
        pool = Pool(command=FAKE, **options)
        try:
            await asyncio.wait_for(body(pool), PATIENCE)
        finally:
            await pool.close()
        assert pool.workers == []

    asyncio.run(whole())


async def answer(pool: Pool, folder: Path, text: str) -> list[dict[str, Any]]:
    return [event async for event in pool.ask(ModelSpec.of(folder, "cpu"), {"text": text})]


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(event.get("piece", "") for event in events)


def states(events: list[dict[str, Any]]) -> list[str]:
    return [event["state"] for event in events if "state" in event]


def pid_in(events: list[dict[str, Any]]) -> int:
    return int(text_of(events).split()[1])


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_model_is_loaded_once_and_answers_are_not_mixed_up(folder_of: Callable[[str], Path]) -> None:
    async def body(pool: Pool) -> None:
        first = await answer(pool, folder_of("zero"), "one")
        assert states(first) == ["loading", "answering"]
        asked = [(name, f"question {i}") for i in range(20) for name in ("zero", "r1")]
        found = await asyncio.gather(*(answer(pool, folder_of(name), text) for name, text in asked))
        for (name, text), events in zip(asked, found, strict=True):
            said = text_of(events)
            assert said.startswith(name)
            assert said.endswith(f" {text}")
            assert events[-1]["end"]
        assert len({pid_in(events) for events in found}) == 2
        assert pid_in(first) in {pid_in(events) for events in found}

    run(body)


def test_the_one_asked_longest_ago_makes_room(folder_of: Callable[[str], Path]) -> None:
    async def body(pool: Pool) -> None:
        pids = {name: pid_in(await answer(pool, folder_of(name), "x")) for name in ("a", "b")}
        await answer(pool, folder_of("a"), "x")
        await answer(pool, folder_of("c"), "x")
        assert sorted(worker.spec.folder.name for worker in pool.workers) == ["a", "c"]
        while is_alive(pids["b"]):
            await asyncio.sleep(0.01)
        assert is_alive(pids["a"])

    run(body, most=2)


def test_when_all_are_busy_a_question_waits_its_turn(folder_of: Callable[[str], Path]) -> None:
    async def body(pool: Pool) -> None:
        holding = pool.ask(ModelSpec.of(folder_of("a"), "cpu"), {"text": "hold"})
        async for event in holding:
            if "piece" in event:
                break
        stream = pool.ask(ModelSpec.of(folder_of("b"), "cpu"), {"text": "x"})
        assert await anext(stream) == {"state": "waiting"}
        waiting = asyncio.create_task(anext(stream))
        # another model's answer needs more turns of the loop than the waiting one would, were it let in
        assert pool.workers[0].spec.folder.name == "a"
        await asyncio.sleep(0)
        assert not waiting.done()
        await holding.aclose()  # the tab with the first question is closed
        events = [await waiting, *[event async for event in stream]]
        assert states(events) == ["loading", "answering"]
        assert text_of(events).startswith("b ")

    run(body, most=1)


def test_leaving_early_stops_the_sampling(folder_of: Callable[[str], Path]) -> None:
    async def body(pool: Pool) -> None:
        folder = folder_of("a")
        holding = pool.ask(ModelSpec.of(folder, "cpu"), {"text": "hold"})
        async for event in holding:
            if "piece" in event:
                break
        await holding.aclose()
        stopped = folder.with_name("a.stopped")
        while not stopped.is_file() or not stopped.read_text():
            await asyncio.sleep(0.01)
        assert stopped.read_text() == "1\n"
        assert [worker.num_asked for worker in pool.workers] == [0]

    run(body)


def test_a_process_that_dies_leaves_a_sentence_and_the_next_question_works(
    folder_of: Callable[[str], Path],
) -> None:
    async def body(pool: Pool) -> None:
        folder = folder_of("zero")
        first = pid_in(await answer(pool, folder, "x"))
        others = [asyncio.create_task(answer(pool, folder, "hold")) for _ in range(2)]
        while pool.workers[0].num_asked < 2:
            await asyncio.sleep(0.01)
        os.kill(first, signal.SIGKILL)
        killed = "The process of zero was killed, perhaps for want of memory. Ask again to start it anew."
        for events in await asyncio.gather(*others):
            assert events[-2] == {"fault": killed}
            assert events[-1] == {"end": True}
        again = await answer(pool, folder, "x")
        assert pid_in(again) != first
        assert text_of(again).endswith(" x")
        died = await answer(pool, folder, "die")
        assert "The process of zero ended with code 3" in died[-2]["fault"]
        assert text_of(await answer(pool, folder, "x")).endswith(" x")

    run(body)


def test_errors_of_a_process_reach_the_terminal_and_no_page(
    folder_of: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    async def body(pool: Pool) -> None:
        events = await answer(pool, folder_of("zero"), "noise")
        assert text_of(events).endswith(" noise")
        while len(caplog.messages) < 3:
            await asyncio.sleep(0.01)

    run(body)
    assert caplog.messages == [
        "zero: Traceback (most recent call last):",
        "zero:   somewhere",
        "zero: ValueError: noise",
    ]


def test_a_model_that_cannot_be_loaded_says_why_each_time(folder_of: Callable[[str], Path]) -> None:
    async def body(pool: Pool) -> None:
        for _ in range(2):
            events = await answer(pool, folder_of("broken"), "x")
            assert events[-2] == {"fault": "broken: it can't be loaded."}
            assert events[-1] == {"end": True}

    run(body)


def test_a_command_that_cannot_be_started_is_a_sentence(folder_of: Callable[[str], Path]) -> None:
    async def body(_: Pool) -> None:
        pool = Pool(command=("/no/such/program",))
        events = await answer(pool, folder_of("a"), "x")
        assert "its process could not be started (No such file or directory)" in events[-2]["fault"]

    run(body)


def test_a_stage_that_was_made_again_gets_a_new_process(folder_of: Callable[[str], Path]) -> None:
    async def body(pool: Pool) -> None:
        folder = folder_of("zero")
        first = pid_in(await answer(pool, folder, "x"))
        (folder / "model.safetensors").write_bytes(b"other weights")
        second = pid_in(await answer(pool, folder, "x"))
        assert first != second
        assert len(pool.workers) == 1

    run(body)


def test_an_idle_process_is_ended(folder_of: Callable[[str], Path]) -> None:
    async def body(pool: Pool) -> None:
        pid = pid_in(await answer(pool, folder_of("zero"), "x"))
        sweeping = asyncio.create_task(pool.sweep())
        while is_alive(pid):
            await asyncio.sleep(0.01)
        sweeping.cancel()
        assert pool.workers == []

    run(body, idle_seconds=0.02)


def test_a_run_that_begins_gets_the_gpu_back_also_from_an_answer(folder_of: Callable[[str], Path]) -> None:
    async def body(pool: Pool) -> None:
        is_wanted = False
        on_cpu = pid_in(await answer(pool, folder_of("a"), "x"))
        spec = ModelSpec.of(folder_of("b"), "auto")
        idle = pid_in([event async for event in pool.ask(spec, {"text": "x"})])
        held = pool.ask(ModelSpec.of(folder_of("c"), "auto"), {"text": "hold"})
        async for event in held:
            if "piece" in event:
                break
        looks: list[bool] = []

        def look() -> bool:
            looks.append(is_wanted)
            return is_wanted

        watching = asyncio.create_task(pool.give_way(look, pause=0.01))
        while len(looks) < 3:
            await asyncio.sleep(0.01)
        assert len(pool.workers) == 3
        is_wanted = True
        rest = [event async for event in held]
        assert "was ended because a run has begun to work, which gets the GPU." in rest[0]["fault"]
        while is_alive(idle):
            await asyncio.sleep(0.01)
        assert is_alive(on_cpu)
        assert [worker.spec.folder.name for worker in pool.workers] == ["a"]
        looks.clear()
        await asyncio.sleep(0.1)
        assert looks == []  # without a model on the GPU no run is looked at
        watching.cancel()

    run(body)


def test_what_a_process_says_that_is_no_message_is_a_sentence(folder_of: Callable[[str], Path]) -> None:
    async def body(pool: Pool) -> None:
        events = await answer(pool, folder_of("zero"), "garble")
        assert events[-2]["fault"] == (
            "The process of zero said what can't be read. Ask again to start it anew."
        )
        assert text_of(await answer(pool, folder_of("zero"), "x")).endswith(" x")

    run(body)


def test_closing_the_pool_ends_its_processes(folder_of: Callable[[str], Path]) -> None:
    pids = []

    async def body(pool: Pool) -> None:
        pids.extend([pid_in(await answer(pool, folder_of(name), "x")) for name in ("a", "b")])

    run(body)
    until = time.monotonic() + PATIENCE
    while any(map(is_alive, pids)) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(map(is_alive, pids))


def test_a_model_that_does_not_fit_makes_room_and_then_says_so(
    folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of("large")
    (folder / "config.json").write_text('{"dtype": "bfloat16"}')
    (folder / "model.safetensors").write_bytes(bytes(1_000_000))
    monkeypatch.setattr(pool_module, "_free_bytes", lambda: 3_900_000)
    # twice the bytes in float32, and two copies of that
    assert memory_fault(folder) == (
        f"{folder}: loading this model takes 0.0 GB of memory, and 0.0 GB are free. "
        "End other programs, or ask it later."
    )
    monkeypatch.setattr(pool_module, "_free_bytes", lambda: 4_000_000)
    assert memory_fault(folder) is None
    monkeypatch.setattr(pool_module, "_free_bytes", lambda: None)
    assert memory_fault(folder) is None

    async def body(pool: Pool) -> None:
        await answer(pool, folder_of("small"), "x")
        monkeypatch.setattr(pool_module, "_free_bytes", lambda: 0 if pool.workers else 4_000_000)
        assert text_of(await answer(pool, folder, "x")).startswith("large ")
        monkeypatch.setattr(pool_module, "_free_bytes", lambda: 0)
        (folder / "model.safetensors").write_bytes(bytes(2_000_000))
        events = await answer(pool, folder, "x")
        assert "loading this model takes" in events[0]["fault"]
        assert pool.workers == []

    run(body)
