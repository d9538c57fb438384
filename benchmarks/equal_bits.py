"""Do two checkouts make the same weights, samples and reports, to the bit?

    git worktree add /tmp/before main~1
    python benchmarks/equal_bits.py /tmp/before .

A redesign should change no number. This runs four recipes with each checkout's own source, one after the
other, and compares all the files that they leave: `demo` and `code` (two ranks), a LoRA stage, and two ranks
that share the parameters (`run.shard`). Seconds, rates, dates, paths and manifests are left out.

`--quick` cuts the steps: minutes instead of half an hour. `--keep FOLDER` keeps the runs, and a second call
does not repeat them. The exit status is 1 if anything differs.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LORA = """
[run]
name = "lora"
output_dir = "runs/lora"
[model]
base = "tinyworld"
[problems.train]
source = "tinyworld"
split = "train"
num_problems = 200
[problems.held_out]
source = "tinyworld"
split = "held_out"
num_problems = 20
[stages.zero]
kind = "grpo"
model = "base"
prompt_style = "zero"
problems = { train = 1.0 }
rewards = { accuracy = 1.0, format = 1.0 }
steps = 4
problems_per_step = 4
group_size = 8
mini_batches = 2
max_new_tokens = 128
kl_coef = 0.001
optimizer = { learning_rate = 1e-3 }
lora = { rank = 8 }
[eval]
problems = ["held_out"]
samples = 2
max_new_tokens = 128
"""
SHARDED = (
    LORA.replace('"lora"', '"sharded"')
    .replace("lora = { rank = 8 }\n", "")
    .replace("[model]", "processes = 2\nshard = true\n[model]")
)
QUICK = {
    "demo": [
        *("stages.zero.steps=2", "stages.dev2.steps=2", "stages.r1.steps=4", "stages.r1.mixture=[]"),
        *("problems.reasoning.num_problems=200", "problems.sampled.num_problems=200"),
        *("stages.r1.reward_schedule=[]", "eval.samples=2", "problems.held_out.num_problems=20"),
    ],
    "code": ["stages.zero.steps=3", "eval.samples=2"],
}

# What a clock, a machine or a path says; the rest of a file has to be equal.
CLOCKED = re.compile(
    r"_seconds$|per_second$|^(seconds|started|finished|timestamp|updated|path|sha256|model)$"
)
DATES = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?Z?|\b\d+:\d\d(:\d\d)?\b|[\d.,]+ (tokens/s|s|min)\b")
LEFT_OUT = (
    ".lock",
    "manifest.json",
    "run.json",
    "finished.json",
    "request.json",
    "index.jsonl",
    ".fingerprints.json",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, help="a checkout")
    parser.add_argument("after", type=Path, help="another")
    parser.add_argument("--quick", action="store_true", help="few steps")
    parser.add_argument("--keep", type=Path, help="a folder for the runs; finished ones are not run again")
    parser.add_argument(
        "--only", nargs="+", default=["demo", "code", "lora", "sharded"], help="these recipes"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        found = {
            side: {
                recipe: digests(
                    made(checkout.resolve(), recipe, folder / side, quick=options.quick), checkout
                )
                for recipe in options.only
            }
            for side, checkout in (("before", options.before), ("after", options.after))
        }
    faults = 0
    for recipe in options.only:
        before, after = found["before"][recipe], found["after"][recipe]
        unlike = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        faults += len(unlike)
        weights = [name for name in before if name.endswith(".safetensors")]
        print(
            f"{recipe}: {len(before)} files, {len(weights)} of them weights, {len(unlike)} differ", flush=True
        )
        for name in unlike:
            print(
                f"  {name}: {before.get(name, 'absent')[:12]} before, {after.get(name, 'absent')[:12]} after"
            )
        for name in sorted(weights):
            print(f"  {name}: sha256 {before[name][:16]}")
    sys.exit(bool(faults))


def made(checkout: Path, recipe: str, folder: Path, *, quick: bool) -> Path:
    """The folder of a run of that recipe by that checkout's source."""
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / recipe
    if (output / "report.html").is_file():
        return output
    text = {"lora": LORA, "sharded": SHARDED}.get(recipe)
    path = folder / f"{recipe}.toml" if text else checkout / "recipes" / f"{recipe}.toml"
    if text:
        path.write_text(text, encoding="utf-8")
    settings = [f"run.output_dir={output}", *(QUICK.get(recipe, []) if quick else [])]
    command = [sys.executable, "-m", "r1kit", "run", str(path)]
    command += [word for setting in settings for word in ("--set", setting)]
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "COLUMNS": "200"}
    print(f"{checkout}: r1 run {recipe}", file=sys.stderr, flush=True)
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"r1 run {recipe} of {checkout} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return output


def digests(run: Path, checkout: Path) -> dict[str, str]:
    """A digest of each file of a run, without what a clock wrote."""
    return {
        str(path.relative_to(run)): hashlib.sha256(content(path, run, checkout.resolve())).hexdigest()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name not in LEFT_OUT and "tfevents" not in path.name
    }


def content(path: Path, run: Path, checkout: Path) -> bytes:
    """What a file says, apart from times and places."""
    if path.suffix == ".safetensors":
        return path.read_bytes()
    text = path.read_text(encoding="utf-8").replace(str(run), "RUN").replace(str(checkout), "CHECKOUT")
    if path.suffix == ".json":
        return json.dumps(timeless(json.loads(text)), sort_keys=True).encode()
    if path.suffix == ".jsonl":
        rows = [json.dumps(timeless(json.loads(line)), sort_keys=True) for line in text.splitlines() if line]
        return "\n".join(rows).encode()
    if path.suffix == ".html":
        # the numbers: tables and curves; sentences may be worded better
        text = re.sub(r"<pre.*?</pre>", "", text, flags=re.DOTALL)
        found = re.findall(r"<td[^>]*>(.*?)</td>|\b(?:points|d)=\"([^\"]*)\"", text, flags=re.DOTALL)
        return DATES.sub("TIME", "\n".join(cell or curve for cell, curve in found)).encode()
    return text.encode()


def timeless(value: Any) -> Any:
    """A JSON value without the keys that a clock or a path fills."""
    if isinstance(value, dict):
        kept = {key: timeless(inner) for key, inner in value.items() if not CLOCKED.search(key)}
        if isinstance(names := kept.get("target_modules"), list):
            kept["target_modules"] = sorted(names)  # a set of peft's, in the order that the process has
        return kept
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
