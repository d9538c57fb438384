"""The base model of a run: where the run's files say, where its recipe says, or with a guest.

It is the one model of a run that lies outside its folder, which may have been copied from another machine: so
it counts if it is to the byte what the run started from, and with a note where that can't be told.
"""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from r1kit.data.guests import find_checkpoint, find_guest, guest_names
from r1kit.errors import UserError
from r1kit.pipeline.fingerprints import Fingerprints
from r1kit.pipeline.recipe_file import read_recipe_file
from r1kit.ui.folders import Run, read_json

BASE = "base"
_MOST_CHECKED_BYTES = 1 << 30  # larger base models are taken as what their path says, without reading them
_Key = tuple[Path, str | None]  # the run's folder, and the fingerprint of what it started from
_base_of: dict[_Key, "Found"] = {}
_looking: dict[_Key, threading.Lock] = {}


@dataclass(frozen=True, slots=True)
class Found:
    """Where a base model is, or why it can't be found; `note` is what a reader should know of it."""

    folder: Path | None = None
    fault: str | None = None
    note: str = ""


def find_base(run: Run) -> Found:
    """The base model of a run. Once found it is kept: its weights may have been read for that."""
    key = run.folder, _fingerprint(run)
    with _looking.setdefault(key, threading.Lock()):  # one run's weights are read once; others don't wait
        found = _base_of.get(key)
        if found is None or found.folder is None or not found.folder.is_dir():
            found = _base_of[key] = _look_for_base(run, key[1])
        return found


def named_bases(run: Run) -> Iterator[Path]:
    """Where the run's files say that its base model is, whether or not it is there, or still the same."""
    for file in ("request.json", "manifest.json"):
        row, _ = read_json(run.folder / "eval" / BASE / file)
        metrics = row.get("metrics")
        path = row.get("model") or (metrics.get("model") if isinstance(metrics, dict) else None)
        if isinstance(path, str) and Path(path).is_absolute():
            yield Path(path)
    recipe = run.record.get("recipe")
    settings = run.record.get("settings", ())
    if not isinstance(recipe, str) or not Path(recipe).is_file():
        return
    try:
        table, source = read_recipe_file(Path(recipe), settings if isinstance(settings, list) else ())
        base = str(table["model"]["base"])
        guest = find_checkpoint(base)
    except (UserError, OSError, KeyError, TypeError, ValueError):
        return
    layer = source.layer(["model", "base"])
    yield guest or layer.folder / Path(base).expanduser()
    with contextlib.suppress(ValueError, OSError):  # no name of the Hub's
        cached = try_to_load_from_cache(base, "config.json")  # looks on disk only
        if isinstance(cached, str):
            yield Path(cached).parent


def _look_for_base(run: Run, wanted: str | None) -> Found:
    # a guest's model is known by its content alone
    places = named_bases(run) if wanted is None else _candidates(run)
    there = [path for path in dict.fromkeys(places) if (path / "config.json").is_file()]
    if wanted is None:  # no stage that started from it has been finished
        return Found(there[0]) if there else _not_found(run)
    store = Fingerprints(run.folder / ".fingerprints.json", writes=False)
    for path in there:
        if _bytes_of(path) > _MOST_CHECKED_BYTES:
            return Found(path, note="Too large to be compared with the base that the run started from.")
        try:
            if store.model(str(path)) == wanted:
                return Found(path)
        except OSError:
            continue
    named = [path for path in named_bases(run) if path in there]
    if named:
        return Found(named[0], note="Its files have changed since the run started from it.")
    return _not_found(run)


def _not_found(run: Run) -> Found:
    named = next(iter(named_bases(run)), None)
    where = f"; the run's files name {named}, which is not on this machine" if named else ""
    return Found(fault=f"The base model of {run.id} is not known here{where}. Its stages can be asked.")


def _candidates(run: Run) -> Iterator[Path]:
    yield from named_bases(run)
    for name in guest_names():
        try:
            guest = find_guest(name)
        except UserError:  # a guest that can't be loaded brings no model
            continue
        if guest is not None:
            yield from guest.checkpoints.values()


def _fingerprint(run: Run) -> str | None:
    """What the manifests say of the base's content."""
    for view in (*run.stages(), *run.evaluations()):
        key = view.manifest.get("key")
        inputs = key.get("inputs") if isinstance(key, dict) else None
        if isinstance(inputs, dict) and isinstance(inputs.get("model base"), str):
            return str(inputs["model base"])
    return None


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*") if path.is_file())
