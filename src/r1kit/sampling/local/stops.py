"""Where a completion stops: at a stop token, or when its text has a stop string in it.

Of several stop strings the one that is complete first counts, character by character, so that the cut does
not depend on how the text falls into tokens.
"""

from collections.abc import Sequence
from typing import Literal

from transformers import PreTrainedTokenizerBase

from r1kit.sampling.engine import SamplingParams

Stop = Literal["token", "string"]

# Tokens decoded beyond those that can hold a stop string: some decoders drop a space where a text begins.
_MARGIN = 4
INCOMPLETE = "\ufffd"  # what a decoder shows for bytes that are not (yet) a character


class StopFinder:
    """Finds out, after each token, whether a completion stops with it; decodes the tail alone, and seldom."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._may_end: dict[tuple[str, ...], dict[int, bool]] = {}  # by stop strings and token

    def find(self, token_ids: Sequence[int], params: SamplingParams) -> Stop | None:
        """Whether `token_ids`, which did not stop before their last token, stop with it."""
        if token_ids[-1] in params.stop_token_ids:
            return "token"
        if params.stop_strings and self._ends(token_ids, params.stop_strings):
            return "string"
        return None

    def _ends(self, token_ids: Sequence[int], strings: tuple[str, ...]) -> bool:
        known = self._may_end.setdefault(strings, {})
        may_end = known.get(token_ids[-1])
        if may_end is None:
            may_end = known[token_ids[-1]] = self._can_complete(token_ids[-1], strings)
        if not may_end:
            return False
        # A token is a byte at least.
        longest = max(len(string.encode()) for string in strings)
        return stop_bounds(decode(self._tokenizer, token_ids[-longest - _MARGIN :]), strings) is not None

    def _can_complete(self, token_id: int, strings: tuple[str, ...]) -> bool:
        """Whether the last character of a stop string may be in this token, or end with it."""
        text = decode(self._tokenizer, [token_id])
        # Decoded alone, a token may lose a space or half a character.
        return not text or INCOMPLETE in text or any(s[-1].isspace() or s[-1] in text for s in strings)


def stop_bounds(text: str, strings: Sequence[str]) -> tuple[int, int] | None:
    """Where the stop string that is complete first begins and ends in `text`, or None."""
    found = [(start + len(s), start) for s in strings if (start := text.find(s)) >= 0]
    if not found:
        return None
    end, start = min(found)
    return start, end


def cut_at_stop(text: str, params: SamplingParams) -> str:
    """`text` up to its first stop string, with it where the parameters say so."""
    bounds = stop_bounds(text, params.stop_strings)
    if bounds is None:
        return text
    start, end = bounds
    return text[: end if params.include_stop_str_in_output else start]


def num_undecided(text: str, strings: Sequence[str]) -> int:
    """How many characters at the end of `text` may turn out to belong to a stop string."""
    longest = max((len(string) for string in strings), default=1)
    tails = range(min(longest - 1, len(text)), 0, -1)
    return next((num for num in tails if any(s.startswith(text[-num:]) for s in strings)), 0)


def decode(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    """The text of tokens, added tokens kept. A row of the embedding without a token shows as `INCOMPLETE`."""
    pieces: list[list[int]] = [[]]
    for token_id in token_ids:
        if token_id >= tokenizer.vocab_size and not _is_token(tokenizer, token_id):
            pieces.append([])
        else:
            pieces[-1].append(token_id)
    options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    return INCOMPLETE.join(str(tokenizer.decode(piece, **options)) if piece else "" for piece in pieces)


def _is_token(tokenizer: PreTrainedTokenizerBase, token_id: int) -> bool:
    """Whether an id is a token: embeddings are padded, Qwen2.5's to 151,936 rows for 151,665 tokens."""
    try:
        return tokenizer.convert_ids_to_tokens(token_id) is not None
    except (IndexError, KeyError, OverflowError):  # of sentencepiece and of plain tables
        return False
