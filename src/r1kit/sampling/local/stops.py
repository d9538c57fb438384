"""Where a completion stops: at a stop token, or when its text contains a stop string.

Of several stop strings, the first to be complete character by character wins, so the cut does not depend on
how the text is tokenized.
"""

from collections.abc import Sequence
from typing import Literal

from transformers import PreTrainedTokenizerBase

from r1kit.sampling.engine import SamplingParams

Stop = Literal["token", "string"]

# Extra tokens decoded before those that can hold a stop string: some decoders drop a text's leading space.
_MARGIN = 4
INCOMPLETE = "\ufffd"  # what a decoder shows for bytes that are not (yet) a character


class StopFinder:
    """Checks after each token whether a completion stops there; decodes only its tail, and only if needed."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._may_end: dict[tuple[str, ...], dict[int, bool]] = {}  # by stop strings and token id

    def find(self, token_ids: Sequence[int], params: SamplingParams) -> Stop | None:
        """How `token_ids` stop with their last token, or None; they must not have stopped earlier."""
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
        # A token has at least one byte, so this many tokens hold the longest string.
        longest = max(len(string.encode()) for string in strings)
        return stop_bounds(decode(self._tokenizer, token_ids[-longest - _MARGIN :]), strings) is not None

    def _can_complete(self, token_id: int, strings: tuple[str, ...]) -> bool:
        """Whether this token may contain or complete the last character of a stop string."""
        text = decode(self._tokenizer, [token_id])
        # Decoded alone, a token may lose a space or half a character.
        return not text or INCOMPLETE in text or any(s[-1].isspace() or s[-1] in text for s in strings)


def stop_bounds(text: str, strings: Sequence[str]) -> tuple[int, int] | None:
    """The start and end in `text` of the stop string that is complete first, or None."""
    found = [(start + len(s), start) for s in strings if (start := text.find(s)) >= 0]
    if not found:
        return None
    end, start = min(found)
    return start, end


def cut_at_stop(text: str, params: SamplingParams) -> str:
    """`text` up to its first stop string, including it if the parameters say so."""
    bounds = stop_bounds(text, params.stop_strings)
    if bounds is None:
        return text
    start, end = bounds
    return text[: end if params.include_stop_str_in_output else start]


def num_undecided(text: str, strings: Sequence[str]) -> int:
    """The number of characters at the end of `text` that may be the beginning of a stop string."""
    longest = max((len(string) for string in strings), default=1)
    tails = range(min(longest - 1, len(text)), 0, -1)
    return next((num for num in tails if any(s.startswith(text[-num:]) for s in strings)), 0)


def decode(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    """The tokens' text with added tokens. Ids without a token (padded embeddings) become `INCOMPLETE`."""
    pieces: list[list[int]] = [[]]
    for token_id in token_ids:
        if token_id >= tokenizer.vocab_size and not _is_token(tokenizer, token_id):
            pieces.append([])
        else:
            pieces[-1].append(token_id)
    options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    return INCOMPLETE.join(str(tokenizer.decode(piece, **options)) if piece else "" for piece in pieces)


def _is_token(tokenizer: PreTrainedTokenizerBase, token_id: int) -> bool:
    """Whether an id is a token. Embeddings are padded: Qwen2.5's has 151,936 rows for 151,665 tokens."""
    try:
        return tokenizer.convert_ids_to_tokens(token_id) is not None
    except (IndexError, KeyError, OverflowError):  # from sentencepiece and from plain tables
        return False
