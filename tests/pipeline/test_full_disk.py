"""A disk that is full: one clear sentence, exit code 2, nothing lost; with space made, the run goes on.

The disk is a tmpfs of a few MB that bubblewrap mounts over a folder; a ballast file takes its space.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.kills import ROOT, differences, make_recipe, runs_in

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

# A checkpoint is 1.0 to 1.4 MB and three are there while one is written. So there is no space for the first
# metrics; for the first checkpoint; for the second; for the third; and then enough.
SIZE_KB, BALLAST_KB = 8000, (7990, 7500, 6300, 5000, 0)


def inside(recipe: Path, disk: Path, kept: Path) -> None:
    """What runs where the disk is small: `r1 run` with ever less ballast; codes, logs and results stay."""
    codes = []
    with runs_in(kept) as runs:
        argv = ["run", str(recipe), "--stages", "zero", "--output"]
        for kilobytes in BALLAST_KB:
            (disk / "ballast").write_bytes(b"\0" * 1024 * kilobytes)
            runs.folder = kept / str(kilobytes)
            runs.folder.mkdir()
            codes.append(runs.run([*argv, str(disk / "run")], runs.folder / "trace"))
        assert runs.run([*argv, str(kept / "plain")], kept / "trace") == 0
    shutil.copytree(disk / "run", kept / "run")
    (kept / "codes.json").write_text(json.dumps(codes))


def test_a_run_stops_with_one_sentence_and_goes_on_when_there_is_space(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    kept.mkdir()
    cage = ["bwrap", "--dev-bind", "/", "/", "--size", str(SIZE_KB * 1024), "--tmpfs", str(disk)]
    command = [sys.executable, "-m", __name__, str(recipe), str(disk), str(kept)]
    subprocess.run([*cage, *command], check=True, timeout=900, cwd=ROOT)
    codes = json.loads((kept / "codes.json").read_text())
    logs = [(kept / str(kilobytes) / "r1.log").read_text() for kilobytes in BALLAST_KB]
    assert (codes[0], codes[-1]) == (2, 0), logs
    assert set(codes) == {0, 2}
    assert codes.count(2) >= 3, codes
    for code, log in zip(codes, logs, strict=True):
        assert "Traceback" not in log, log
        last = log.rstrip().splitlines()[-1]
        if code == 2:
            assert "no space left on the disk" in last
            assert "run the same command again" in last
    assert differences(kept / "plain", kept / "run") == []


if __name__ == "__main__":
    inside(*(Path(argument) for argument in sys.argv[1:]))
