"""Text of sampled tokens: whole, or piece by piece as they come."""

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
    """The completion's text: added tokens kept, without the stop token, cut at the stop string.

    What the prompt had opened of it stands in front; a model's own marks of a reasoning are `<think>` tags.
    """
    text = decode(tokenizer, token_ids[:-1] if stop == "token" else token_ids)
    text = cut_at_stop(text, request.params) if stop == "string" else text
    marks = own_marks(tokenizer)
    text = text if marks is None else marks.to_tags(text)
    return whole_response(prompt_opening(request.prompt_token_ids, tokenizer), text)


class TextStream:
    """Turns tokens into pieces of text that, joined, are the text of all of them.

    A character whose bytes are spread over several tokens comes out when it is complete; what may be the
    beginning of a stop string when it has turned out not to be one. Nothing comes out after a stop string.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, params: SamplingParams) -> None:
        self._tokenizer, self._params = tokenizer, params
        self._token_ids: list[int] = []
        self._context, self._decoded = 0, 0  # tokens decoded for context only; tokens whose text is known
        self._held = ""  # text that is known and not out yet
        self._ended = False

    def push(self, token_id: int) -> str:
        """The text that this token brings out; "" where it ends inside of a character."""
        self._token_ids.append(token_id)
        return self._release(self._next(final=False), final=False)

    def finish(self) -> str:
        """What is left: an unfinished character, shown as the decoder shows it."""
        return self._release(self._next(final=True), final=True)

    def _release(self, text: str, *, final: bool) -> str:
        """What of the text held back, followed by `text`, can be shown."""
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
        # The last tokens known stay as context: how some decoders space a token depends on the one before.
        self._context, self._decoded = self._decoded, len(self._token_ids)
        return whole[len(before) :]
