"""The text of sampled tokens: complete, or streamed piece by piece."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from r1kit.sampling.engine import SampleRequest, SamplingParams
from r1kit.sampling.local.stops import (
    INCOMPLETE,
    Stop,
    cut_at_stop,
    decode,
    num_undecided,
    stop_bounds,
)
from r1kit.text.prompts import prompt_opening
from r1kit.text.template import whole_response
from r1kit.text.turns import own_marks


def decode_completion(
    tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int], stop: Stop | None, request: SampleRequest
) -> str:
    """The completion's text with added tokens, without the stop token, cut at the stop string.

    Text that the prompt opened comes first. A model's own reasoning marks become `<think>` tags.
    """
    text = decode(tokenizer, token_ids[:-1] if stop == "token" else token_ids)
    text = cut_at_stop(text, request.params) if stop == "string" else text
    marks = own_marks(tokenizer)
    text = text if marks is None else marks.to_tags(text)
    return whole_response(prompt_opening(request.prompt_token_ids, tokenizer), text)


class TextStream:
    """Turns tokens into pieces of text, which concatenate to the text of all tokens.

    A character that spans several tokens is released when it is complete. Text that may begin a stop string
    is held back until it turns out not to. Nothing is released after a stop string.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, params: SamplingParams) -> None:
        self._tokenizer, self._params = tokenizer, params
        self._token_ids: list[int] = []
        self._context, self._decoded = 0, 0  # tokens decoded for context only; tokens whose text is known
        self._held = ""  # decoded text that is not released yet
        self._ended = False

    def push(self, token_id: int) -> str:
        """The text released by this token; "" if it ends inside a character."""
        self._token_ids.append(token_id)
        return self._release(self._next(final=False), final=False)

    def finish(self) -> str:
        """The remaining text, with an unfinished character as the decoder shows it."""
        return self._release(self._next(final=True), final=True)

    def _release(self, text: str, *, final: bool) -> str:
        """Append `text` to the held-back text and return what can be released."""
        if self._ended:
            return ""
        self._held += text
        strings = self._params.stop_strings
        if stop_bounds(self._held, strings) is not None:
            self._ended = True
            return cut_at_stop(self._held, self._params)
        num_shown = len(self._held) - (0 if final else num_undecided(self._held, strings))
        shown, self._held = self._held[:num_shown], self._held[num_shown:]
        return shown

    def _next(self, *, final: bool) -> str:
        before = decode(self._tokenizer, self._token_ids[self._context : self._decoded])
        whole = decode(self._tokenizer, self._token_ids[self._context :])
        if whole.endswith(INCOMPLETE) and not final:
            return ""
        # The last decoded tokens stay as context: some decoders space a token by the one before it.
        self._context, self._decoded = self._decoded, len(self._token_ids)
        return whole[len(before) :]
