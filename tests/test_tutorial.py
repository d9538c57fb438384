"""The tutorial of the documentation, from top to bottom."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from docs.build import DOCS

from tests.doc_blocks import BLOCKS, commands_in

# demo's stages with so few steps that only the way through them is left; its recipe stays as it is
SMALL = """\
extends = "demo"
run = { name = "demo", output_dir = "runs/demo", processes = 1 }
eval.samples = 2
[problems]
reasoning.num_problems = 60
sampled.num_problems = 60
general.num_problems = 40
safety.num_problems = 20
lookalikes.num_problems = 20
validation.num_problems = 4
held_out.num_problems = 4
held_out_general.num_problems = 6
held_out_lookalikes.num_problems = 4
[stages]
zero = { steps = 3, problems_per_step = 4, group_size = 8, max_new_tokens = 64 }
dev1 = { epochs = 9, tokens_per_batch = 400 }
dev2 = { steps = 1, problems_per_step = 4, group_size = 8, max_new_tokens = 64 }
drafts.general.num_demonstrations = 120
draft.epochs = 4
rejection.general.num_demonstrations = 120
dev3.epochs = 1
[stages.r1]
steps = 2
problems_per_step = 4
group_size = 8
max_new_tokens = 64
mixture = [{ from_step = 1, shares = { reasoning = 1.0, general = 1.0, safety = 1.0, lookalikes = 1.0 } }]
reward_schedule = [{ from_step = 1, weights = { accuracy = 1.0, format = 1.0, helpful = 1.0, safety = 1.0 } }]
"""


def start(arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "r1kit", *arguments]
    wide = {**os.environ, "COLUMNS": "200"}  # a reason stands in one line
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=wide, stdout=pipe, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_the_tutorial_from_top_to_bottom(tmp_path: Path) -> None:
    """Its commands one after another, the first one killed; `demo` is a small recipe of the same stages."""
    page = DOCS / "tutorial.md"
    (tmp_path / "small.toml").write_text(SMALL, encoding="utf-8")
    [toml] = [block for block in BLOCKS if block.page == page and block.language == "toml"]
    hotter = toml.text.replace('"demo"', '"small.toml"')
    (tmp_path / "hotter.toml").write_text(hotter, encoding="utf-8")
    run = tmp_path / "runs" / "demo"
    printed: dict[str, str] = {}
    zero = ""
    shown = [block for block in BLOCKS if block.page == page and block.language == "bash"]
    for text in (text for block in shown for text in commands_in(block)):
        words = ["r1", "run", "demo"] if text == "make demo" else shlex.split(text)
        process = start(["small.toml" if word == "demo" else word for word in words[1:]], tmp_path)
        if text == "make demo":
            while not list(run.glob("**/rollouts/index.jsonl")):
                assert process.poll() is None, process.communicate()[0]
                time.sleep(0.1)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            continue
        printed[text] = process.communicate()[0]
        assert process.returncode == 0, f"{text}: {printed[text]}"
        zero = zero or (run / "zero" / "manifest.json").read_text("utf-8")
    assert "Report: runs/demo/report.html" in printed["r1 run demo"]
    assert "to do" not in printed["r1 status demo"]
    assert printed["r1 status demo"].count(" done ") >= 21
    changed = printed["r1 status demo --set stages.r1.temperature=1.0"]
    assert "stages.r1.temperature was 0.8, is 1.0" in changed
    assert [line.split()[0] for line in changed.splitlines() if " stale: " in line] == ["r1", "eval/r1"]
    assert (run / "zero" / "manifest.json").read_text("utf-8") == zero
    assert "temperature = 1.0" in (dry := printed["r1 run hotter.toml --dry-run"])
    assert "What would run, in runs/hotter" in dry
    for row in re.findall(r"^\| (`.*?`) \|", page.read_text("utf-8"), re.MULTILINE):
        for path in re.findall(r"`([^`]+)`", row):
            assert (run / path).exists(), path
