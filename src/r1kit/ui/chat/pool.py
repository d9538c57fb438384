"""The processes that hold models: started when one is asked, a few at a time, ended when nobody asks.

A process serves one folder's weights as they were when it started; when the folder's files change, the next
question starts another. One that dies takes its answers with it, in a sentence, and the next question starts
it anew. All of this runs in the server's event loop, so nothing here needs a lock.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from r1kit.ui.folders import Json

_log = logging.getLogger("r1kit.ui")

COMMAND = (sys.executable, "-m", "r1kit.ui.chat.worker")
MOST_WORKERS = 4
IDLE_SECONDS = 600.0
_SWEEP_SECONDS = 15.0
_YIELD_SECONDS = 3.0  # between two looks at whether a run wants the accelerator
_LONGEST_LINE = 1 << 26  # bytes: a completion of a million characters, escaped
_KEPT_LINES = 40  # of a process's error output, for the terminal


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The weights that a process holds. `stamp` changes when the folder's files do."""

    folder: Path
    device: str
    stamp: tuple[tuple[str, int, int], ...]

    @classmethod
    def of(cls, folder: Path, device: str) -> "ModelSpec":
        """The weights in a folder as they are now."""
        found = []
        for path in sorted(folder.glob("*")):
            with contextlib.suppress(OSError):
                stat = path.stat()
                found.append((path.name, stat.st_size, stat.st_mtime_ns))
        return cls(folder, device, tuple(found))


class Worker:
    """One process. `num_asked` questions are being answered by it; it was last asked at `used`."""

    def __init__(
        self, spec: ModelSpec, gone: Callable[["Worker"], None], command: Sequence[str] = COMMAND
    ) -> None:
        self.spec = spec
        self._command = command
        self.num_asked = 0
        self.used = time.monotonic()
        self.process: asyncio.subprocess.Process | None = None
        self._gone = gone
        self._ready: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._answers: dict[int, asyncio.Queue[Json]] = {}
        self._said: deque[str] = deque(maxlen=_KEPT_LINES)
        self._why_ended = ""  # once the pool has ended it
        self._fault: str | None = None  # how it ended
        self._task = asyncio.create_task(self._live())

    @property
    def is_ready(self) -> bool:
        """Whether its model is loaded."""
        return self._ready.done()

    async def ready(self) -> Json:
        """Wait until the model is loaded; `{"ready": ...}`, or `{"fault": sentence}`."""
        return await asyncio.shield(self._ready)

    async def ask(self, key: int, question: Json) -> AsyncGenerator[Json, None]:
        """The events of an answer, to its end. Leaving early stops the sampling."""
        if self._fault is not None:  # it has ended since it was chosen
            yield {"fault": self._fault}
            yield {"end": True}
            return
        queue = self._answers[key] = asyncio.Queue()
        try:
            self._write({"ask": key, **question})
            while True:
                event = await queue.get()
                yield event
                if event.get("end"):
                    return
        finally:
            del self._answers[key]
            self._write({"stop": key})

    @property
    def is_on_accelerator(self) -> bool:
        """Whether its loaded model is in the memory of a GPU."""
        loaded = self._ready.result() if self._ready.done() else {}
        return "ready" in loaded and loaded["ready"].get("device") != "cpu"

    def end(self, why: str) -> None:
        """End the process: it has nothing that would be lost. `why` completes "was ended ..."."""
        self._why_ended = why
        if self.process is None:
            self._task.cancel()
        elif self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()

    async def ended(self) -> None:
        """Wait until it has ended."""
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def _write(self, message: Json) -> None:
        if self.process is not None and self.process.stdin is not None and self.process.returncode is None:
            with contextlib.suppress(OSError, RuntimeError):
                self.process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _live(self) -> None:
        fault = f"{self.spec.folder}: its process could not be started."
        try:
            self.process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=_LONGEST_LINE,
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for the server, which then ends it
            )
            listening = asyncio.create_task(self._listen())
            self._write({"model": str(self.spec.folder), "device": self.spec.device})
            await self._read()
            await self.process.wait()
            await listening
            fault = self._epitaph(self.process.returncode or 0)
        except OSError as error:
            fault = f"{self.spec.folder}: its process could not be started ({error.strerror})."
        except ValueError as error:  # a line without end, or not of its own
            _log.error("%s: %s", self._name, error)
            fault = f"The process of {self._name} said what can't be read. Ask again to start it anew."
        finally:
            self._fault = fault
            self._gone(self)
            if self.process is not None and self.process.returncode is None:
                self.process.kill()
            if not self._ready.done():
                self._ready.set_result({"fault": fault})
            for queue in self._answers.values():
                queue.put_nowait({"fault": fault})
                queue.put_nowait({"end": True})

    async def _read(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            event = json.loads(line)
            if "id" not in event:
                self._ready.set_result(event)
            elif event["id"] in self._answers:  # not one that was stopped
                self._answers[event["id"]].put_nowait(event)

    async def _listen(self) -> None:
        assert self.process is not None
        assert self.process.stderr is not None
        is_error = was_error = False
        with contextlib.suppress(ValueError):  # a line beyond the limit: only the terminal misses it
            async for line in self.process.stderr:
                text = line.decode(errors="replace").rstrip()
                self._said.append(text)
                # of what libraries say, the terminal only needs the errors
                is_error = text.startswith("Traceback") or (is_error and text.startswith((" ", "\t")))
                if is_error or was_error:
                    _log.error("%s: %s", self._name, text)
                was_error = is_error

    @property
    def _name(self) -> str:
        """The stage's name, from its folder."""
        folder = self.spec.folder
        return folder.parent.name if folder.name == "model" else folder.name

    def _epitaph(self, code: int) -> str:
        name = self._name
        again = "Ask again to start it anew."
        if self._why_ended:
            return f"The process of {name} was ended {self._why_ended}. {again}"
        if code == -signal.SIGKILL:
            return f"The process of {name} was killed, perhaps for want of memory. {again}"
        for line in self._said:
            _log.error("%s: %s", name, line)
        how = f"by signal {-code}" if code < 0 else f"with code {code}"
        return f"The process of {name} ended {how}; the terminal of `r1 ui` has its last lines. {again}"


class Pool:
    """At most `most` processes; the one that was asked longest ago makes room for another."""

    def __init__(
        self,
        *,
        most: int = MOST_WORKERS,
        idle_seconds: float = IDLE_SECONDS,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._most, self._idle_seconds, self._command = most, idle_seconds, command
        self._workers: dict[ModelSpec, Worker] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._numbers = itertools.count(1)

    @property
    def workers(self) -> list[Worker]:
        """The processes that there are now."""
        return list(self._workers.values())

    async def ask(self, spec: ModelSpec, question: Json) -> AsyncGenerator[Json, None]:
        """The events of an answer: `state` while it waits or loads, then the process's own, up to `end`."""
        if spec.device == "cpu" and spec not in self._workers:
            while (fault := memory_fault(spec.folder)) is not None:
                if (idle := self._make_room()) is None:
                    yield {"fault": fault}
                    yield {"end": True}
                    return
                await idle.ended()
        while (worker := self._take(spec)) is None:
            yield {"state": "waiting"}
            freed = asyncio.get_running_loop().create_future()
            self._waiting.append(freed)
            await freed
        try:
            if not worker.is_ready:
                yield {"state": "loading"}
            loaded = await worker.ready()
            if "fault" in loaded:
                yield {"fault": loaded["fault"]}
                yield {"end": True}
                return
            yield {"state": "answering", **loaded["ready"]}
            async with contextlib.aclosing(worker.ask(next(self._numbers), question)) as events:
                async for event in events:
                    yield event
        finally:
            worker.num_asked -= 1
            worker.used = time.monotonic()
            self._wake()

    async def sweep(self) -> None:
        """End processes that have been idle for long; for ever."""
        while True:
            await asyncio.sleep(min(_SWEEP_SECONDS, self._idle_seconds))
            for worker in self.workers:
                if not worker.num_asked and time.monotonic() - worker.used > self._idle_seconds:
                    self._end(worker)

    async def give_way(self, is_wanted: Callable[[], bool], *, pause: float = _YIELD_SECONDS) -> None:
        """End processes on an accelerator, also while they answer, as soon as a run wants it; for ever."""
        while True:
            await asyncio.sleep(pause)
            if any(worker.is_on_accelerator for worker in self.workers):
                if not await asyncio.to_thread(is_wanted):
                    continue
                for worker in self.workers:
                    if worker.is_on_accelerator:
                        self._end(worker, "because a run has begun to work, which gets the GPU")

    async def close(self) -> None:
        """End all processes and wait for their end."""
        workers = self.workers
        for worker in workers:
            self._end(worker)
        for worker in workers:
            await worker.ended()

    def _take(self, spec: ModelSpec) -> Worker | None:
        """The process of these weights, started if there is room; None if all are busy."""
        worker = self._workers.get(spec)
        if worker is None:
            stale = [w for w in self.workers if w.spec.folder == spec.folder and not w.num_asked]
            for one in stale:  # its weights have been replaced
                self._end(one)
            if len(self._workers) >= self._most and self._make_room() is None:
                return None
            worker = self._workers[spec] = Worker(spec, self._forget, self._command)
        worker.num_asked += 1
        return worker

    def _make_room(self) -> Worker | None:
        """End the process that was asked longest ago, of those that are not being asked; None if all are."""
        idle = [worker for worker in self.workers if not worker.num_asked]
        if not idle:
            return None
        oldest = min(idle, key=lambda worker: worker.used)
        self._end(oldest)
        return oldest

    def _end(self, worker: Worker, why: str = "to make room") -> None:
        worker.end(why)
        self._forget(worker)

    def _forget(self, worker: Worker) -> None:
        if self._workers.get(worker.spec) is worker:
            del self._workers[worker.spec]
            self._wake()

    def _wake(self) -> None:
        while self._waiting:
            freed = self._waiting.popleft()
            if not freed.done():
                freed.set_result(None)


def memory_fault(folder: Path) -> str | None:
    """Why a model can't be loaded into what memory is free; None if it can, or if that is not known."""
    free = _free_bytes()
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if free is None or not weights:
        return None
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        stored = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    except (OSError, ValueError, AttributeError):
        stored = "float32"
    # a processor computes in float32, and while the sampler takes its copy there are two of them
    needed = weights * (1 if stored == "float32" else 2) * 2
    if needed <= free:
        return None
    return (
        f"{folder}: loading this model takes {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are "
        "free. End other programs, or ask it later."
    )


def _free_bytes() -> int | None:
    """The memory that a new process may take; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        return None
    with contextlib.suppress(OSError, ValueError):  # a container's limit; "max" if it has none
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
        found.append(limit - used)
    return min(found, default=None)


def _environment() -> dict[str, str]:
    """One thread, nothing from the network: a training run beside it needs the cores."""
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }
