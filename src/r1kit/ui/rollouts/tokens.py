"""A completion's tokens as pieces of text with shades: how surprising each was, and which way it is pushed.

The pieces come from the tokenizer's own file (the stage's, that of what it started from, or the base
model's), read by the `tokenizers` library alone. Where none is found the tokens' numbers are shown.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from r1kit.ui.base_model import find_base, named_bases
from r1kit.ui.folders import Run
from r1kit.ui.text import visible

_NAME = "tokenizer.json"
_LEVELS = 9
_NATS_PER_LEVEL = 0.6  # so a token of less than half a percent has the darkest shade
TOKENS_PER_PART = 4000
"""Tokens on a page at a time: a browser gets slow with more."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A token: its text (or number), and its shades from 0 to 9."""

    text: str
    token_id: int
    logprob: float | None
    surprise: int
    push: int

    @property
    def says(self) -> str:
        """What pointing at it says."""
        if self.logprob is None:
            return f"token {self.token_id}"
        chance = math.exp(min(self.logprob, 0.0))
        return f"token {self.token_id}, logprob {self.logprob:.4g}, probability {chance:.3g}"


@dataclass(frozen=True)
class Shaded:
    """Some of a completion's tokens, from the `first` of `total` on; `note` says what is special."""

    pieces: tuple[Piece, ...]
    first: int
    total: int
    advantage: float | None
    advantage_level: int
    as_numbers: bool  # for want of a tokenizer
    note: str | None

    @property
    def next(self) -> int | None:
        """The first token of the next part; None if this is the last."""
        after = self.first + len(self.pieces)
        return after if after < self.total else None

    @property
    def direction(self) -> str:
        """Whether training makes the tokens more or less likely."""
        return "none" if not self.advantage else "up" if self.advantage > 0 else "down"


def shade_tokens(
    run: Run,
    stage: str,
    token_ids: Sequence[int],
    logprobs: Sequence[float],
    advantage: float | None,
    *,
    text: str,
    first: int = 0,
) -> Shaded:
    """The tokens from `first` on, with the shades of their logprobs and of the completion's advantage.

    Every token of a completion has the completion's advantage (DeepSeek-R1, eq. 1); its push is the advantage
    times one minus its probability: a token that was certain anyway is not moved.
    """
    tokenizer, note = find_tokenizer(run, stage)
    texts: list[str] = []
    end = first + TOKENS_PER_PART
    if tokenizer is not None:
        texts = token_texts(tokenizer, token_ids[:end])
        said = "".join(texts).strip()
        whole = text.strip()
        if said and whole[:40] not in said and said[:40] not in whole:
            note = (
                "The tokenizer that was found gives another text than the log has: it may not be the stage's."
            )
    size = 0.0 if advantage is None else abs(advantage)
    pieces = []
    for i, token_id in enumerate(token_ids[first:end], first):
        logprob = logprobs[i] if i < len(logprobs) else None
        surprise = 0 if logprob is None else _level(-logprob / _NATS_PER_LEVEL)
        moved = 0.0 if logprob is None else 1.0 - math.exp(min(logprob, 0.0))
        shown = visible(texts[i]) if texts else str(token_id)
        pieces.append(Piece(shown, token_id, logprob, surprise, _level(size * moved * 6)))
    return Shaded(tuple(pieces), first, len(token_ids), advantage, _level(size * 3), not texts, note)


def token_texts(tokenizer: Tokenizer, token_ids: Sequence[int]) -> list[str]:
    """The text of each token in its place. Of tokens that share a character, the last has it."""
    stream = DecodeStream(skip_special_tokens=False)
    texts: list[str] = []
    for token_id in token_ids:
        try:
            texts.append(stream.step(tokenizer, token_id) or "")
        except (
            Exception
        ):  # the library raises plain Exception; a number that the vocabulary lacks is one case
            texts.append(f"[{token_id}]")
            stream = DecodeStream(skip_special_tokens=False)
    return texts


def find_tokenizer(run: Run, stage: str) -> tuple[Tokenizer | None, str | None]:
    """The stage's tokenizer and None, or what comes nearest and a sentence about it."""
    tried: list[str] = []
    own = True
    for path in _places(run, stage):
        try:
            return _load(path, path.stat().st_mtime_ns), (
                None if own else f"The tokens' texts are by {path}, the nearest tokenizer that is there."
            )
        except FileNotFoundError:
            own = False
        except Exception as error:  # tokenizers raises plain Exception for a damaged file
            own = False
            tried.append(f"{path} can't be read ({error}).")
    said = " ".join(tried) or "Neither the stage's model nor the one that it started from is here."
    return None, f"{said} So the tokens are shown as numbers."


def _level(value: float) -> int:
    return round(min(max(value, 0.0), _LEVELS)) if math.isfinite(value) else _LEVELS


@lru_cache(maxsize=4)
def _load(path: Path, changed: int) -> Tokenizer:
    del changed  # only so that a file that has changed is read again
    return Tokenizer.from_file(str(path))


def _places(run: Run, stage: str) -> Iterator[Path]:
    views = {view.name: view for view in run.stages()}
    seen: set[str] = set()
    name: str | None = stage
    while name in views and name not in seen:
        seen.add(name)
        yield views[name].folder / "model" / _NAME
        name = str(views[name].config.get("model", ""))
    for folder in named_bases(run):
        yield folder / _NAME
    if (base := find_base(run).folder) is not None:  # in a copied run, what its content alone tells
        yield base / _NAME
    for other in views.values():
        if other.kind in ("grpo", "sft") and other.name not in seen:
            yield other.folder / "model" / _NAME
