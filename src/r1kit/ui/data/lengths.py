"""How long a text is: in tokens where a tokenizer is at hand, else in words; in characters for huge files."""

import re
from pathlib import Path
from typing import Any

# Counting tokens or words of more would keep a core busy for minutes beside a training run.
MOST_BYTES_COUNTED = 96 * 2**20
# A Chinese character, or a run of letters and digits: each is a word.
_WORD = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+")


class Measure:
    """Counts a text's length in `unit`. `of` says whose tokens they are."""

    def __init__(self, unit: str, tokenizer: Any = None, of: str = "") -> None:
        self.unit, self.of = unit, of
        self._tokenizer = tokenizer

    def __call__(self, text: str, num_tokens: int | None = None) -> int:
        """The length of a text, whose number of tokens may be known."""
        if self.unit == "tokens":
            if num_tokens is not None:
                return num_tokens
            encoded = self._tokenizer.encode(
                text.encode("utf-8", "replace").decode(), add_special_tokens=False
            )
            return len(encoded.ids)
        return len(_WORD.findall(text)) if self.unit == "words" else len(text)

    def close(self) -> None:
        """Free the tokenizer."""
        self._tokenizer = None


def measure_for(num_bytes: int, tokenizer: Path | None) -> Measure:
    """How to measure the texts of a file of this size."""
    if num_bytes > MOST_BYTES_COUNTED:
        return Measure("characters")
    if tokenizer is None:
        return Measure("words")
    from tokenizers import Tokenizer  # only where it is needed

    try:
        return Measure("tokens", Tokenizer.from_file(str(tokenizer)), str(tokenizer.parent))
    except Exception:  # it raises a bare Exception for whatever is wrong with the file
        return Measure("words")
