"""Text of sampled tokens: whole, or piece by piece as they come."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

_INCOMPLETE = "\ufffd"  # what a decoder shows for bytes that are not (yet) a character


def decode_completion(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int], *, stopped: bool) -> str:
    """The completion's text: added tokens kept, without the stop token."""
    shown = token_ids[:-1] if stopped else token_ids
    return str(tokenizer.decode(list(shown), skip_special_tokens=False, clean_up_tokenization_spaces=False))


class TextStream:
    """Turns tokens into pieces of text that, joined, are the text of all of them.

    A character whose bytes are spread over several tokens comes out when it is complete.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._token_ids: list[int] = []
        self._context, self._shown = 0, 0  # tokens decoded for context only; tokens whose text is out

    def push(self, token_id: int) -> str:
        """The text that this token completes; "" where it ends inside of a character."""
        self._token_ids.append(token_id)
        return self._next(final=False)

    def finish(self) -> str:
        """What is left: an unfinished character, shown as the decoder shows it."""
        return self._next(final=True)

    def _next(self, *, final: bool) -> str:
        before = self._decode(self._token_ids[self._context : self._shown])
        whole = self._decode(self._token_ids[self._context :])
        if whole.endswith(_INCOMPLETE) and not final:
            return ""
        # The last tokens shown stay as context: how some decoders space a token depends on the one before.
        self._context, self._shown = self._shown, len(self._token_ids)
        return whole[len(before) :]

    def _decode(self, token_ids: Sequence[int]) -> str:
        return decode_completion(self._tokenizer, token_ids, stopped=False)
