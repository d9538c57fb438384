"""A run directory as the pipeline leaves one, with made-up numbers: what the report is tested on."""

import json
import random
from pathlib import Path

from r1kit.data.jsonl import write_jsonl
from r1kit.evaluate.graded import Graded, graded_to_json
from r1kit.evaluate.summary import summarise

# name, kind, pass@1 ordinary and hard, language consistency, general, harmless, tokens
MODELS = (
    ("base", "", 0.25, 0.10, 0.80, 0.80, 0.20, 30),
    ("zero", "grpo", 0.95, 0.78, 0.75, 0.78, 0.15, 98),
    ("zero_random", "grpo", 0.26, 0.11, 0.80, 0.80, 0.20, 31),
    ("zero_format", "grpo", 0.30, 0.12, 0.81, 0.80, 0.20, 33),
    ("dev1", "sft", 0.85, 0.60, 0.99, 0.60, 0.70, 120),
    ("dev2", "grpo", 0.96, 0.80, 1.00, 0.58, 0.60, 104),
    ("dev3", "sft", 0.95, 0.79, 1.00, 0.86, 0.80, 101),
    ("r1", "grpo", 0.97, 0.85, 1.00, 0.88, 0.98, 97),
)
STARTS = {"zero": "base", "zero_random": "base", "zero_format": "base", "dev2": "dev1", "r1": "dev3"}
_FAMILIES = ("arithmetic", "search")
_TEXT = {
    "en": " <think> Try 3 and 9: 27, too small. Wait, check again. </think> <answer> 12 </answer>",
    "zh": " <think> 试3和9：27，太小。检查一下。 </think> <answer> 12 </answer>",
}


def make_run(
    folder: Path, *, seed: int = 0, stages: tuple[str, ...] | None = None, num_problems: int = 24
) -> Path:
    """Stages and evaluations of `MODELS`, or of the named ones, in `folder`."""
    for name, kind, *numbers in MODELS:
        if stages is None or name in stages:
            if kind:
                _make_stage(folder / name, name, kind, seed)
            _make_evaluation(folder / "eval" / name, name, numbers, seed, num_problems)
    if stages is None:
        _make_data_stages(folder, seed)
    return folder


def _make_stage(folder: Path, name: str, kind: str, seed: int) -> None:
    rng = random.Random(f"{seed}-{name}")
    rows = []
    for step in range(1, 31):
        done = step / 30
        if kind == "grpo":
            row = {
                "reward/mean": 0.5 + 1.3 * done + rng.gauss(0, 0.08),
                "reward/accuracy": 0.2 + 0.7 * done + rng.gauss(0, 0.06),
                "reward/format": min(1.0, 0.5 + done),
                "completion/length_mean": 30 + 70 * done + rng.gauss(0, 4),
                "completion/length_right": 28 + 70 * done,
                "completion/length_wrong": 40 + 80 * done,
                "completion/truncated_frac": 0.02,
                "groups/constant_frac": 0.5 * done,
                "policy/entropy": 1.2 - 0.8 * done,
                "policy/clip_frac": 0.01,
                "kl/ref": 0.02 * done,
            }
            if step % 10 == 0:
                row["eval/held_out_accuracy"] = 0.2 + 0.65 * done
        else:
            row = {"loss": 2.0 / (1 + 3 * done), "learning_rate": 1e-3}
        rows.append({"step": step, **row})
    folder.mkdir(parents=True)
    write_jsonl(folder / "metrics.jsonl", rows)
    write_manifest(folder, name, kind, seed, {"model": STARTS.get(name, "base"), "prompt_style": "zero"})
    if kind == "grpo":
        (folder / "rollouts").mkdir()
        for step in (1, 15, 30):
            write_jsonl(folder / "rollouts" / f"step-{step:05d}.jsonl", _rollouts(step))


def _rollouts(step: int) -> list[dict]:
    tries = " ".join(["Try 2 and 9: 18, too small."] * (1 + step // 10))
    problem = {"id": "s", "kind": "logic", "domain": "search", "language": "en", "messages": []}
    problem["source"] = "tinyworld"
    text = f" <think> {tries} </think> <answer> 3 and 9 </answer>"
    return [{"problem": problem, "wave": 0, "completion": {"text": text}}] * 2


def write_manifest(folder: Path, name: str, kind: str, seed: int, config: dict) -> None:
    """A finished manifest in the pipeline's shape."""
    manifest = {
        "stage": name,
        "kind": kind,
        "key": {
            "config": {"kind": kind, **config},
            "inputs": {"model base": "0f" * 16},
            "settings": {"run": {"seed": seed}, "model": {"dtype": "float32", "device": "cpu"}},
        },
        "code": {"version": "0.1.0", "sources": "ab" * 16},
        "environment": {"python": "3.11.7", "torch": "2.13.0", "threads": 2, "world_size": 1},
        "started": "2026-11-22T17:00:00Z",
        "finished": "2026-11-22T17:02:35Z",
        "seconds": 155.0,
        "outputs": ["model"],
        "metrics": {"completion_tokens": 1_234_567},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def _make_evaluation(folder: Path, name: str, numbers: list[float], seed: int, num_problems: int) -> None:
    ordinary, hard, consistency, general, harmless, length = numbers
    rng = random.Random(f"{seed}-{name}-eval")
    samples = []
    for i in range(num_problems):
        tier = ("ordinary", "hard")[i % 2]
        for sample in range(8):
            right = rng.random() < (ordinary if tier == "ordinary" else hard)
            samples.append(_graded(i, sample, tier, right, consistency, int(length * (1 + (tier == "hard")))))
    for i in range(num_problems):
        kind, domain = (("general", "fact"), ("general", "lookalike"), ("safety", "harmful"))[i % 3]
        right = rng.random() < (harmless if kind == "safety" else general)
        samples.append(_general(i, kind, domain, right))
    folder.mkdir(parents=True)
    write_jsonl(folder / "generations.jsonl", map(graded_to_json, samples))
    summary = {
        "model": "base",
        "seed": seed,
        "samples": 8,
        "temperature": 0.6,
        "top_p": 0.95,
        "num_tokens": 54_321,
        "sampling_seconds": 20.0,
        "grading_seconds": 3.0,
        **summarise(samples, num_bootstrap=200, seed=0),
    }
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")


def _graded(i: int, sample: int, tier: str, right: bool, consistency: float, length: int) -> Graded:
    domain, language = _FAMILIES[i // 2 % 2], ("en", "zh")[i // 4 % 2]
    return Graded(
        problem_set="held_out",
        problem_id=f"q{i}",
        sample=sample,
        kind="logic" if domain == "search" else "math",
        domain=domain,
        tier=tier,
        language=language,
        question=f"Two numbers add up to {12 + i} & multiply to 27. <Which>?",
        ground_truth="3 9",
        text=_TEXT[language],
        finish_reason="stop",
        num_tokens=length,
        well_formed=True,
        answer="12",
        answer_key="12" if right else str(sample),
        correct=right,
        lenient_correct=right,
        consistency=consistency,
        reasoning_words=9,
        reasoning_steps=3,
        response_words=9,
        num_tries=2 if domain == "search" else None,
        num_reflections=1,
    )


def _general(i: int, kind: str, domain: str, right: bool) -> Graded:
    return Graded(
        problem_set="general",
        problem_id=f"g{i}",
        sample=0,
        kind=kind,
        domain=domain,
        tier="",
        language="en",
        question="What color is the sky?",
        ground_truth="blue" if domain == "fact" else None,
        text="The sky is blue.",
        finish_reason="stop",
        num_tokens=8,
        well_formed=True,
        answer="The sky is blue.",
        correct=right,
        lenient_correct=right,
        closes_politely=False,
        refuses=domain == "lookalike" and not right,
    )


def _make_data_stages(folder: Path, seed: int) -> None:
    filters = {"sampled": 2000, "wrong": 900, "mixed_language": 300, "repetition": 40, "kept": 760}
    for name, counts in (
        (
            "cold_start",
            {"sources": {"few_shot": filters, "zero": {**filters, "kept": 1_204}}, "records": 1_964},
        ),
        (
            "rejection",
            {"domains": {"math": {"samples": 900, "mean_tokens": 98.5}, "general": {"samples": 300}}},
        ),
    ):
        (folder / name).mkdir()
        write_jsonl(folder / name / "data.jsonl", [{"response": "x"}] * 1_234)
        (folder / name / "counts.json").write_text(json.dumps(counts), encoding="utf-8")
        write_manifest(folder / name, name, name, seed, {})
