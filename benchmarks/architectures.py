"""Which families of models work, and how: the table of docs/models.md.

A tiny random model of each is sampled, trained with and without an adapter, saved, read again and turned into
a reward model; the numbers are largest differences, of logprobs, logits or scores. `python
benchmarks/architectures.py` makes the whole table (minutes), `--quick` a few rows, names of families theirs.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.architecture_checks import sampler_error, saved_error, scorer_error, trainer_error
from tests.architectures import ARCHITECTURES, BY_NAME, Architecture

from r1kit.errors import ModelError
from r1kit.model.loading import load_model, load_tokenizer
from r1kit.model.logprobs import check_head
from r1kit.model.lora import LoraConfig, expert_weights
from r1kit.model.packing import why_padded
from r1kit.sampling.local import why_unsupported

QUICK = ("Qwen3", "Phi-3", "Qwen3-MoE")
HEADER = (
    "family", "model type", "sampler", "rows", "sampled", "trained", "saved", "LoRA, saved", "reward model",
)  # fmt: skip
BOUND = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    transformers.logging.set_verbosity_error()
    names = asked.families or (QUICK if asked.quick else [a.name for a in ARCHITECTURES])
    print("| " + " | ".join(HEADER) + " |")
    print("|" + "---|" * len(HEADER))
    for name in names:
        print("| " + " | ".join(row_of(BY_NAME[name])) + " |", flush=True)


def row_of(architecture: Architecture) -> list[str]:
    """The cells of one family."""
    with tempfile.TemporaryDirectory() as folder:
        source = architecture.write(Path(folder) / "model")
        model, tokenizer = load_model(str(source)), load_tokenizer(str(source))
        check_head(model)
        lora = LoraConfig(rank=2, alpha=4)
        adapted = _said(lambda: saved_error(source, Path(folder) / "adapted", lora))
        return [
            architecture.name,
            f"`{architecture.model_type}`",
            "own" if why_unsupported(model) is None else "transformers",
            "packed" if why_padded(model) is None else "padded",
            _said(lambda: sampler_error(model, tokenizer)),
            _said(lambda: trainer_error(model)),
            _said(lambda: saved_error(source, Path(folder) / "whole", None)),
            adapted + (" (experts too)" if expert_weights(model) else ""),
            _said(lambda: scorer_error(source)),
        ]


def _said(measure: Callable[[], float]) -> str:
    """The number, or that it is refused before a run; a number above the bound stands out."""
    try:
        error = measure()
    except ModelError:
        return "refused"
    return f"{error:.0e}" if error < BOUND else f"**{error:.0e}**"


if __name__ == "__main__":
    main()
