"""The benchmarks in their quick form: they run, and print the rows that they promise."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
needs_trl = pytest.mark.skipif(
    importlib.util.find_spec("trl") is None, reason="TRL is not installed; `make peers` installs it"
)


def run(script: str, *options: str) -> list[list[str]]:
    """The cells of the table that a benchmark prints, its header left out."""
    done = subprocess.run(
        [sys.executable, f"benchmarks/{script}.py", "--quick", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[2:]]


def number(cell: str) -> float:
    return float(cell.replace(",", ""))


@pytest.mark.slow
def test_rollouts_are_compared_at_equal_and_natural_lengths():
    rows = run("rollout", "--threads", "1")
    assert {row[1] for row in rows} == {"equal", "natural"}
    assert all(number(row[4]) > 0 and number(row[5]) > 0 for row in rows)


@needs_trl
@pytest.mark.slow
@pytest.mark.parametrize("options", [["--threads", "1"], ["--processes", "2"]], ids=["alone", "ranks"])
def test_grpo_steps_are_compared_with_trls(options):
    rows = run("grpo_step", *options)
    assert [row[1] for row in rows] == ["8", "natural"]
    assert all(number(row[3]) > 0 and number(row[4]) > 0 for row in rows)


@needs_trl
@pytest.mark.slow
def test_fine_tuning_is_compared_with_trls():
    rows = run("sft", "--threads", "1")
    assert rows
    assert all(number(row[3]) > 0 and number(row[4]) > 0 for row in rows)


@pytest.mark.slow
def test_ranks_are_compared_alone_and_beside_a_second_program():
    rows = run("ranks")
    assert [row[1] for row in rows] == ["none"] * 3 + ["one busy core"] * 3


@pytest.mark.skipif(
    importlib.util.find_spec("playwright") is None
    or not any(map(shutil.which, ("chromium", "google-chrome"))),
    reason="no Chromium",
)
@pytest.mark.slow
def test_open_pages_are_measured_beside_a_training_run():
    nothing, pages = run("ui_beside_training")
    assert nothing[1] == pages[1]
    assert number(nothing[1]) > 0
    assert number(nothing[2]) > 0
    assert number(pages[2]) > 0
    assert re.fullmatch(r"\d+\.\d\dx \(.*\)", pages[3])


@pytest.mark.slow
def test_the_cost_of_a_step_is_measured_and_drawn(tmp_path):
    rows = run("scaling", "--threads", "1", "--svg", str(tmp_path / "curve.svg"))
    assert [row[1] for row in rows] == ["2", "4"]
    assert (tmp_path / "curve.svg").read_text(encoding="utf-8").startswith("<svg")


def test_operations_of_a_rollout_by_hand(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import contest

    size = contest.Size(hidden=32, layers=1, heads=2, head_dim=16, inner=8)
    model = contest.make_model(size)
    # head 1024 x 32; q, o 32 x 32; k, v 32 x 32 (two kv heads of 16); gate, up, down 8 x 32
    weights = 1024 * 32 + 4 * 32 * 32 + 3 * 8 * 32
    # two rows of 2 and 1 tokens behind 96: keys 96+1 + 96+2 and 96+1; the prompt itself 96 * 97 / 2
    tokens, keys = 3 + 96, 97 + 98 + 97 + 4656
    assert contest.rollout_flops(model, [2, 1]) == 2 * weights * tokens + 2 * 2 * 32 * keys
    assert contest.ratio([2.0, 3.0, 8.0], [1.0, 1.0, 2.0]) == "3.00x (2.00-4.00)"


def test_the_papers_cost_is_of_the_papers_numbers(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import paper_cost

    from r1kit.pipeline.planning.work import totals

    work = totals(paper_cost.paper_pieces(1.0)["R1-Zero"])
    assert work["completions"] == 650 * 8192
    assert work["updates"] == 10_400
    lengths = [phase.tokens for phase in paper_cost.zero_phases(1.0)]
    assert lengths[0] < 1_000 < 9_000 < lengths[-2] < 10_000 < lengths[-1] == 15_000


@pytest.mark.slow
def test_architectures_agree_to_the_bound():
    rows = run("architectures")
    assert [row[0] for row in rows] == ["Qwen3", "Phi-3", "Qwen3-MoE"]
    assert [row[2] for row in rows] == ["own", "transformers", "transformers"]
    assert all("**" not in cell for row in rows for cell in row)


@pytest.mark.slow
def test_a_checkout_has_the_bits_of_itself(tmp_path):
    command = [
        sys.executable,
        "benchmarks/equal_bits.py",
        ".",
        ".",
        "--only",
        "lora",
        "--keep",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("lora: 20 files, 2 of them weights, 0 differ")
    # one bit of a weight, one sample
    weights = tmp_path / "after/lora/zero/model/model.safetensors"
    found = bytearray(weights.read_bytes())
    found[-3] ^= 1
    weights.write_bytes(found)
    rollouts = tmp_path / "after/lora/zero/rollouts/step-00002.jsonl"
    first, *rest = rollouts.read_text(encoding="utf-8").splitlines(keepends=True)
    rollouts.write_text(
        json.dumps({**json.loads(first), "sample": 99}) + "\n" + "".join(rest), encoding="utf-8"
    )
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "lora: 20 files, 2 of them weights, 2 differ" in done.stdout


def test_a_long_stage_is_read_once():
    rows = run("curves")
    assert [row[0] for row in rows][:2] == ["read with json", "first page"]
    assert len(rows) == 5
    assert all(number(row[1]) > 0 for row in rows)


def test_the_walk_of_a_problem_is_followed():
    done = subprocess.run(
        [sys.executable, "benchmarks/walk.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    stops = re.findall(r"^  ([\w.]+)\(", done.stdout, flags=re.MULTILINE)
    assert stops[:2] == ["text.prompts.encode_prompt", "sampling.rollouts.iter_groups"]
    assert {"rewards.base.score", "grpo.step.advantages_of", "grpo.step_log.write_step_log"} <= set(stops)
    rooms, names = map(int, re.findall(r" in (\d+) rooms, under (\d+) names", done.stdout)[0])
    assert rooms <= 8
    assert names <= 10
