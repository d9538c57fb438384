"""The language measure: its error on the labelled texts, and what it costs per completion.

    python benchmarks/language.py [--tokens 1000] [--repeats 20]

Errors are mean absolute errors of the proportion, on the texts that the measure was made with and on held-out
ones. Costs are milliseconds of processor time per completion of about `--tokens` tokens, in one process, for
completions that all differ: English and Chinese with the two as candidates (no detector is needed), and open
candidates, where stretches that share a script go to lingua.
"""

import argparse
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.text.held_out_texts import HELD_OUT_ACROSS_SCRIPTS, HELD_OUT_WITHIN_SCRIPT
from tests.text.labelled_texts import ACROSS_SCRIPTS, WITHIN_SCRIPT, Piece, joined, true_share

from r1kit.text.language import language_consistency

SETS = {
    "across scripts": ACROSS_SCRIPTS,
    "across scripts, held out": HELD_OUT_ACROSS_SCRIPTS,
    "within a script": WITHIN_SCRIPT,
    "within a script, held out": HELD_OUT_WITHIN_SCRIPT,
}
CHARS_PER_TOKEN = 3


def show_errors() -> None:
    for name, texts in SETS.items():
        errors = [abs(language_consistency(joined(p), t).share - true_share(t, p)) for t, p in texts]
        print(f"{name:28} {len(errors):3} texts  mean {sum(errors) / len(errors):.4f}  max {max(errors):.4f}")


def completion(pieces: Sequence[Piece], num_chars: int, rng: random.Random) -> str:
    """Pieces in random order with a number behind each, so that no two completions are alike."""
    text = ""
    while len(text) < num_chars:
        text += f"{rng.choice(pieces)[2]} {rng.randrange(10_000)}. "
    return text


def show_cost(name: str, languages: set[str], candidates: tuple[str, ...] | None, options: object) -> None:
    tokens, repeats = options.tokens, options.repeats  # type: ignore[attr-defined]
    pieces = [piece for texts in SETS.values() for _, p in texts for piece in p if piece[0] in languages]
    rng = random.Random(0)
    texts = [completion(pieces, tokens * CHARS_PER_TOKEN, rng) for _ in range(repeats + 1)]
    language_consistency(texts[0], "en", candidates)  # loads what is loaded at first use
    start = time.process_time()
    for text in texts[1:]:
        language_consistency(text, "en", candidates)
    milliseconds = (time.process_time() - start) / repeats * 1000
    print(f"{name:28} {milliseconds:8.2f} ms per completion of about {tokens} tokens")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    show_errors()
    show_cost("en and zh, both named", {"en", "zh"}, ("en", "zh"), options)
    show_cost("en and zh, open", {"en", "zh"}, None, options)
    show_cost("all languages, open", {p[0] for t in SETS.values() for _, q in t for p in q}, None, options)


if __name__ == "__main__":
    main()
