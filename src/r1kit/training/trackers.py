"""A stage's metrics for Trackio and Weights & Biases, beside its own log and TensorBoard.

Off unless the recipe names them (`run.trackers`), and each an extra. A tracker works in a thread of its own,
so that a slow, broken or unreachable service costs the training nothing: it is noted once, and the stage goes
on without it. A resumed stage goes on in the same run there: its name and what has been sent are kept in the
stage's folder, no step is sent twice, and rows that a service lacks are sent from the stage's own log.
Where a service keeps its data, and whether it works offline, is up to its own variables (TRACKIO_DIR,
TRACKIO_SPACE_ID, WANDB_MODE, WANDB_ENTITY, ...).

Not covered: offline, W&B can't say what it has, and after a kill -9 it lacks what it had not written yet.
"""

import json
import os
import queue
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

from r1kit.errors import UserError
from r1kit.stage import StageContext
from r1kit.training.metrics_log import read_metrics

Service = Literal["trackio", "wandb"]

STATE_NAME = ".tracking.json"  # hidden: no output of the stage
_PROJECT = "r1kit"
_MOST_WAITING = 10_000  # rows that a slow service may be behind
_CLOSE_SECONDS = 60.0  # a service gets to take the last rows at a stage's end


@dataclass(frozen=True)
class TrackedRun:
    """What a stage is called at a service: a run in a group, which is named after the recipe's run."""

    id: str
    name: str
    group: str
    kind: str
    config: Mapping[str, Any]
    folder: Path  # for files that the service keeps beside its own place


class Tracker(Protocol):
    """An open run at a service. Whatever it raises is noted, and ends the tracking only.

    `last_step` is the last one that the service has of a resumed run; None if it can't say.
    """

    last_step: int | None

    def log(self, step: int, row: Mapping[str, float]) -> None:
        """Send a row."""
        ...

    def finish(self) -> None:
        """Send what has not been sent."""
        ...


class _Trackio:
    def __init__(self, run: TrackedRun) -> None:
        import trackio

        # it has no setting for this, and its lines would tear the display of the progress
        for module in (trackio, trackio.run, trackio.utils):
            vars(module).setdefault("print", lambda *said, **options: None)
        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT") or _PROJECT,
            name=run.name,
            group=run.group,
            config=dict(run.config),
            resume="allow",
            embed=False,
        )
        # what was still in its queue when a process was killed has not been kept
        following = getattr(self._run, "_next_step", None)
        self.last_step = following - 1 if isinstance(following, int) else None

    def log(self, step: int, row: Mapping[str, float]) -> None:
        self._run.log(dict(row), step=step)

    def finish(self) -> None:
        self._run.finish()


class _Wandb:
    def __init__(self, run: TrackedRun) -> None:
        if fault := wandb_fault():
            raise UserError(fault)
        import wandb

        run.folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or _PROJECT,
            id=run.id,
            name=run.name,
            group=run.group,
            job_type=run.kind,
            config=dict(run.config),
            dir=os.environ.get("WANDB_DIR") or str(run.folder),
            resume="allow",
            settings=wandb.Settings(silent=True, console="off", init_timeout=30.0),
        )
        first = self._run.starting_step
        self.last_step = first - 1 if first or not self._run.offline else None
        self._logged = self.last_step if self.last_step is not None else -1

    def log(self, step: int, row: Mapping[str, float]) -> None:
        if step > self._logged:
            self._run.log(dict(row), step=step)
            self._logged = step
        else:  # it takes no more of this step: what came late stands beside the last values
            self._run.summary.update(dict(row))

    def finish(self) -> None:
        self._run.finish()


_OPENERS: dict[str, Callable[[TrackedRun], Tracker]] = {"trackio": _Trackio, "wandb": _Wandb}


def wandb_fault() -> str | None:
    """Why Weights & Biases can't be used as things are; None if it can. Asks no server and no person."""
    os.environ.setdefault("WANDB_SILENT", "true")  # its lines would tear the display of the progress
    if os.environ.get("WANDB_MODE", "online") not in ("online", "run", "shared"):
        return None
    import wandb

    if wandb.login(prompt=False):
        return None
    return (
        "Weights & Biases has no key here: `wandb login` keeps one, WANDB_API_KEY gives one, and "
        "WANDB_MODE=offline does without."
    )


def service_fault(service: str) -> str | None:
    """Why a tracker can't be used as things are, with the fix; None if it can."""
    spec = find_spec(service)
    # the folder ./wandb that Weights & Biases makes looks like a package without a file
    if spec is None or spec.origin is None:
        return f"{service} is not installed: pip install 'r1kit[{service}]'"
    return wandb_fault() if service == "wandb" else None


class Trackers:
    """The trackers of a stage. They are opened with its first row, and never raise."""

    def __init__(self, context: StageContext) -> None:
        self._context = context
        self._workers: list[_Worker] | None = None

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """Hand a row to every tracker."""
        if self._workers is None:
            self._workers = self._open()
        for worker in self._workers:
            worker.put(step, row)
        self._tell()

    def close(self) -> None:
        """Wait for the trackers to send what they have, a minute at most."""
        for worker in self._workers or ():
            worker.close()
        self._tell()
        self._workers = None

    def _open(self) -> "list[_Worker]":
        services = self._context.tracking.services
        if not services:
            return []
        state = _State(self._context.work_dir / STATE_NAME)
        run = _tracked_run(self._context, state.id)
        return [_Worker(service, run, state, self._context.work_dir) for service in services]

    def _tell(self) -> None:
        # by the stage's own thread: a display need not expect others
        for worker in self._workers or ():
            if worker.fault and not worker.is_told:
                worker.is_told = True
                self._context.progress.note(
                    f"{self._context.name}: {worker.service} gets no more of this stage: {worker.fault}"
                )


def forget_tracked(work_dir: Path) -> None:
    """Let the trackers begin another run: the stage in this folder starts over, with other numbers."""
    (work_dir / STATE_NAME).unlink(missing_ok=True)


class _State:
    """What has been sent of a stage: the last step at each service, and the names sent of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            self.id = str(row["id"])
            self._sent = {str(s): (int(last), set(names)) for s, (last, names) in row["sent"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self.id, self._sent = secrets.token_hex(4), {}

    def has_only(self, service: str, step: int) -> None:
        """A service says that it has nothing after this step: the rest is sent again."""
        with self._lock:
            last, names = self._sent.get(service, (-1, set()))
            self._sent[service] = min(last, step), names

    def unsent(self, service: str, step: int, row: Mapping[str, float]) -> dict[str, float]:
        """What of a row has not been sent."""
        with self._lock:
            last, names = self._sent.get(service, (-1, set()))
        if step < last:
            return {}
        return {name: value for name, value in row.items() if step > last or name not in names}

    def sent(self, service: str, step: int, names: Mapping[str, float]) -> None:
        """Remember it, so that a resumed stage knows."""
        with self._lock:
            last, before = self._sent.get(service, (-1, set()))
            self._sent[service] = step, set(names) | (before if step == last else set())
            row = {"id": self.id, "sent": {s: [last, sorted(n)] for s, (last, n) in self._sent.items()}}
            aside = self._path.with_name(f"{STATE_NAME}.{os.getpid()}.tmp")
            aside.write_text(json.dumps(row), encoding="utf-8")
            aside.replace(self._path)


class _Worker:
    """One tracker's thread, and the rows that wait for it."""

    def __init__(self, service: str, run: TrackedRun, state: _State, folder: Path) -> None:
        self.service = service
        self.fault = ""
        self.is_told = False
        self._run, self._state, self._folder = run, state, folder
        self._rows: queue.Queue[tuple[int, dict[str, float]] | None] = queue.Queue(_MOST_WAITING)
        # a daemon: a service that hangs must not keep the process from ending
        self._thread = threading.Thread(target=self._work, name=f"tracker {service}", daemon=True)
        self._thread.start()

    def put(self, step: int, row: Mapping[str, float]) -> None:
        try:
            if not self.fault:
                self._rows.put_nowait((step, dict(row)))
        except queue.Full:
            self.fault = f"it is {_MOST_WAITING:,} rows behind"

    def close(self) -> None:
        try:
            self._rows.put(None, timeout=0 if self.fault else _CLOSE_SECONDS)
        except queue.Full:
            self.fault = self.fault or f"it is {_MOST_WAITING:,} rows behind"
        self._thread.join(0 if self.fault else _CLOSE_SECONDS)
        if self._thread.is_alive() and not self.fault:
            self.fault = f"it did not take the last rows within {_CLOSE_SECONDS:.0f} s"

    def _work(self) -> None:
        try:
            tracker = _OPENERS[self.service](self._run)
            if tracker.last_step is not None:
                self._state.has_only(self.service, tracker.last_step)
            is_first = True
            while (item := self._rows.get()) is not None and not self.fault:
                step, row = item
                if is_first:
                    for earlier in read_metrics(self._folder):
                        if earlier["step"] < step:
                            self._send(tracker, int(earlier.pop("step")), earlier)
                is_first = False
                self._send(tracker, step, row)
            tracker.finish()
        # the trust boundary: whatever a service's library raises must not touch the training
        except (Exception, SystemExit) as error:
            self.fault = self.fault or f"{type(error).__name__}: {error}"

    def _send(self, tracker: Tracker, step: int, row: Mapping[str, float]) -> None:
        if fresh := self._state.unsent(self.service, step, row):
            tracker.log(step, fresh)
            self._state.sent(self.service, step, fresh)


def _tracked_run(context: StageContext, run_id: str) -> TrackedRun:
    try:
        manifest = json.loads((context.work_dir / "manifest.json").read_text(encoding="utf-8"))
        kind, config = str(manifest["kind"]), dict(manifest["key"]["config"])
    except (OSError, ValueError, KeyError, TypeError):
        kind, config = "", {}
    group = context.tracking.group or context.name
    return TrackedRun(
        id=run_id,
        name=f"{group}-{context.name}-{run_id}",  # by its name alone Trackio finds it again
        group=group,
        kind=kind,
        config={**config, "stage": context.name, "seed": context.seed},
        folder=context.tracking.folder or context.work_dir / ".tracking",
    )
