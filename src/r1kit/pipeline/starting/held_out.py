"""What to evaluate on: a test set that is named or lies beside the data, else a part that is held out.

`test.jsonl` beside `train.jsonl`, `NAME-test.csv` beside `NAME.csv`, the test split of a folder or of a set
on the hub. What lies there is only taken where it reads as the data does.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from r1kit.data.files import read_rows
from r1kit.data.mappings import PROBLEM_MAPPINGS
from r1kit.errors import DataError, UserError
from r1kit.pipeline.starting.data import Data, load, makes_its_own, read, told_apart
from r1kit.pipeline.starting.well_known import TEST_SPLITS
from r1kit.pipeline.starting.wishes import Wishes

_SPLITS = ("test", "validation", "valid", "val", "dev", "eval")
# Of data without a test set: a tenth, as is usual, and no more than gives an interval of 0.04 on either side.
_HELD_OUT_FRAC, _MOST_HELD_OUT = 10, 500


@dataclass(frozen=True, slots=True)
class Test:
    """The evaluation's problems: another source, or `num_held_out` problems of the data itself."""

    why: str
    data: Data | None = None
    num_held_out: int = 0  # 0, and no data: there is no evaluation


def find_test(wishes: Wishes, data: Data) -> Test:
    """What to evaluate on. Raises `UserError` where a test set is named that can't be read."""
    if wishes.test is not None:
        if makes_its_own(wishes.test):
            fields = {"source": wishes.test, "split": "held_out", "num_problems": 400}
            return Test(wishes.test, load(fields, f"made by {wishes.test}"))
        return Test(f"{wishes.test}, as you said", _read_as(data, told_apart(wishes.test), None, wishes))
    if wishes.hold_out is None and (found := _beside(wishes, data)) is not None:
        return found
    if data.is_made:
        return _made(data, wishes.hold_out) if wishes.hold_out else Test("none was wished")
    usable = len(data.problems)
    num = wishes.hold_out
    if num is None:
        if usable < 2:
            raise UserError(
                "the data has only one usable problem, and nothing else to evaluate on: --hold-out 0 trains "
                "on it without an evaluation, --test FILE names a test set"
            )
        num = max(1, min(_MOST_HELD_OUT, usable // _HELD_OUT_FRAC))
    if num >= usable:
        raise UserError(
            f"--hold-out {num}: the data has {usable} usable problems; some must be left to train on"
        )
    return Test(
        f"{num:,} problems of the data, which are not trained on" if num else "none was wished", None, num
    )


def _beside(wishes: Wishes, data: Data) -> Test | None:
    source = str(data.fields["source"])
    if data.is_made:
        return _made(data, 400)
    if source in PROBLEM_MAPPINGS:
        split = TEST_SPLITS.get(source, "")
        if not split or wishes.split is not None:
            return None
        return Test(f"its split {split}", load(data.fields | {"split": split}, data.why))
    if Path(source).expanduser().is_file():
        for path in _files_beside(Path(source)):
            try:
                return Test(f"{path.name}, which lies beside it", _read_as(data, str(path), None, wishes))
            except UserError:  # it is something else
                continue
        return None
    return _split_beside(wishes, data, source) if wishes.split in (None, "train") else None


def _made(data: Data, num: int) -> Test:
    """So many problems of the test split of a source that makes its own."""
    split = "held_out" if str(data.fields["source"]).startswith("tinyworld") else "test"
    # fixed: the same questions in every run
    fields = data.fields | {"split": split, "num_problems": num, "seed": 1}
    return Test(f"its split {split}", load(fields, data.why))


def _split_beside(wishes: Wishes, data: Data, source: str) -> Test | None:
    """The test split of a folder or hub data set whose rows are its training split."""
    try:
        read_rows(source, split="train", subset=wishes.subset, base_dir=Path())
    except DataError:  # its only split has another name
        return None
    for split in _SPLITS:
        try:
            return Test(f"its split {split}", _read_as(data, source, split, wishes))
        except UserError:
            continue
    return None


def _files_beside(path: Path) -> Iterator[Path]:
    folder = path.expanduser().parent
    stem, dot, ending = path.name.partition(".")
    if any(re.search(rf"(?<![a-z]){split}(?![a-z])", stem.lower()) for split in _SPLITS):
        return  # it is one itself
    for split in _SPLITS:
        as_train = re.sub(r"(?<![a-z])train(?:ing)?(?![a-z])", split, stem, flags=re.IGNORECASE)
        names = [as_train] if as_train != stem else [f"{stem}-{split}", f"{stem}_{split}", split]
        for name in names:
            found = folder / f"{name}{dot}{ending}"
            if found.is_file():
                yield path.parent / found.name


def _read_as(data: Data, source: str, split: str | None, wishes: Wishes) -> Data:
    """Another source read as the data is; where that fails, as what it looks like itself."""
    rows = read_rows(source, split=split, subset=wishes.subset if split else None, base_dir=Path())
    known = {"source": source} | ({"split": split} if split else {})
    known |= {"subset": wishes.subset} if split and wishes.subset else {}
    how = {
        name: data.fields[name] for name in ("mapping", "kind", "columns", "answer_in") if name in data.fields
    }
    if str(data.fields["source"]) in PROBLEM_MAPPINGS:
        how = {"mapping": data.fields["source"]}
    try:
        found = load(known | how, data.why, len(rows))
    except DataError:
        found = None
    if found is None or 2 * len(found.problems) < len(rows):
        found = read(known, rows, Wishes())
    if found.kinds.isdisjoint(data.kinds):
        raise DataError(f"{source}: its problems are of kind {', '.join(found.kinds)}, and not as the data's")
    return found
