"""The manifest of a stage: what it was made from, by which code, when, and with what result.

A manifest's key (configuration, inputs, settings) decides whether a stage is done or has to be made again;
everything else in it is for people. Changed code is reported, but does not make a stage again, because then
every commit would. Content is compared, not dates: if a stage is made again with the same result, the stages
that depend on it stay as they are.
"""

import dataclasses
import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

import r1kit
from r1kit.errors import DataError
from r1kit.ranks import collectives

FILE_NAME = "manifest.json"

# Differences named in one sentence; more are counted.
_NAMED_DIFFERENCES = 3
_SHOWN_CHARACTERS = 60  # of a value in a message


@dataclass(frozen=True)
class Key:
    """What a stage depends on: equal keys give equal outputs.

    `inputs` maps a readable name ("model base", "problems sums", "sft data cold_start") to the fingerprint
    of the input's content. `settings` are fields of the recipe's other tables that affect the stage.
    """

    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Manifest:
    """The record of one stage, finished or not (`finished` is None)."""

    stage: str
    kind: str
    key: Key
    code: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    started: str = ""
    finished: str | None = None
    seconds: float = 0.0
    outputs: tuple[str, ...] = ()
    metrics: Mapping[str, float | int | str] = field(default_factory=dict)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest in a stage's folder; None if there is none. Raises `DataError` for a broken one."""
    path = folder / FILE_NAME
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        return Manifest(**{**row, "key": Key(**row["key"]), "outputs": tuple(row["outputs"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: not a manifest ({error}); move {folder} away to have it made again."
        ) from None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into the folder, completely or not at all."""
    write_json(folder / FILE_NAME, dataclasses.asdict(manifest))


def write_json(path: Path, value: Any) -> None:
    """Replace the file by this value, completely or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("w", encoding="utf-8") as file:
            json.dump(value, file, ensure_ascii=False, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())  # else a power cut after the rename can leave an empty file
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def differences(stage: str, old: Key, new: Key) -> list[str]:
    """What changed from one key to the other, each as half a sentence; [] if nothing did.

    `["stages.dev1.epochs was 2, is 3", "its model base changed"]`
    """
    # evaluations are named `eval/<stage>`, and their table is [eval]
    prefix = f"stages.{stage}" if "/" not in stage else stage.split("/")[0]
    found = list(_changes(prefix, old.config, _as_json(new.config)))
    found += list(_changes("", old.settings, _as_json(new.settings)))
    for name in dict.fromkeys([*old.inputs, *new.inputs]):
        if name not in new.inputs:
            found.append(f"its {name} is no longer an input")
        elif name not in old.inputs:
            found.append(f"its {name} is new")
        elif old.inputs[name] != new.inputs[name]:
            found.append(f"its {name} changed")
    return found


def sentence(parts: list[str]) -> str:
    """Differences as one text: the first few, and the number of the others."""
    shown = "; ".join(parts[:_NAMED_DIFFERENCES])
    more = len(parts) - _NAMED_DIFFERENCES
    return f"{shown}; and {more} more" if more > 0 else shown


def _changes(prefix: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys([*old, *new]):
            inner = f"{prefix}.{name}" if prefix else str(name)
            if name not in new:
                yield f"{inner} was {_shown(old[name])}, is gone"
            elif name not in old:
                yield f"{inner} is new: {_shown(new[name])}"
            else:
                yield from _changes(inner, old[name], new[name])
    elif old != new:
        yield f"{prefix} was {_shown(old)}, is {_shown(new)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _as_json(value: Any) -> Any:
    """The value as a manifest would return it; tuples become lists."""
    return json.loads(json.dumps(value))


def code_changed(old: Mapping[str, str]) -> str | None:
    """A warning if a stage was made by other code than the present; None if not."""
    new = code_version()
    if dict(old) == new:
        return None
    before = f"{old.get('version', '?')} ({old.get('sources', '?')[:8]})"
    return f"made by r1kit {before}, this is {new['version']} ({new['sources'][:8]}); kept as it is"


@cache  # the sources are read once; a change while a run is going does not affect the loaded code
def code_version() -> dict[str, str]:
    """The package's version and a hash of its sources."""
    root = Path(__file__).parent.parent
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return {"version": r1kit.__version__, "sources": digest.hexdigest()}


def environment(*, sharded: bool = False) -> dict[str, Any]:
    """What else the last bits of a result depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "world_size": collectives.world_size(),
        "sharded": sharded,
        "machine": platform.machine(),
        "cpu": f"{_cpu_name()}, {os.cpu_count()} cores",
    }


def rounding_differs(begun: Mapping[str, Any]) -> str | None:
    """How the environment of an unfinished stage differs in what changes its last bits.

    `"2 ranks (now 1)"`; None if it does not differ.
    """
    now = environment()
    shapes = {
        "world_size": "{} ranks",
        "threads": "{} threads",
        "torch": "torch {}",
        "cpu": "the processor {}",
    }
    changed = [
        f"{shape.format(begun[name])} (now {now[name]})"
        for name, shape in shapes.items()
        if begun.get(name, now[name]) != now[name]  # a manifest of an older version may lack a name
    ]
    return " and ".join(changed) or None


def _cpu_name() -> str:
    """The processor's name, as far as the system reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
