"""Encodes problems as prompt tokens and texts as completion tokens, and checks a tokenizer for training.

Prompt and completion are encoded separately and joined as ids, so that a sampled completion and a written one
have the same tokens at the seam. A finished turn is never rendered for training, so it does not matter
whether the chat template drops its reasoning, as DeepSeek-R1's own does. Not here: the format of responses
(`template`), and which tokens end them (`turns`).
"""

import itertools
from collections.abc import Iterable

from transformers import PreTrainedTokenizerBase

from r1kit.errors import DataError, ModelError
from r1kit.text.template import (
    after_opening,
    closes_thought,
    format_chat,
    format_zero,
    opening_of,
    parse_response,
    render_zero,
)
from r1kit.text.turns import asks_for_begin, name_of, render, response_end_id
from r1kit.types import Message, Problem, PromptStyle

TokenIds = tuple[int, ...]

# The last tokens of a prompt, which hold what it opened: a tag may be several tokens, with white space
# between.
_OPENING_TOKENS = 24


def encode_prompt(problem: Problem, tokenizer: PreTrainedTokenizerBase, style: PromptStyle) -> TokenIds:
    """The prompt of a problem: Table 1's template around its question, or the chat template around its turns.

    The zero prompt gets the begin token if the tokenizer adds one; a chat template writes its own. Raises
    `ModelError` if there is no chat template, `DataError` if the template rejects the turns.
    """
    if style == "chat":
        try:
            return tuple(render(tokenizer, problem.messages, add_generation_prompt=True, tokenize=True))
        except DataError as error:
            raise DataError(f"problem {problem.id!r}: {error}" if problem.id else str(error)) from None
    return encode_text(render_zero(problem.question), tokenizer)


def encode_text(text: str, tokenizer: PreTrainedTokenizerBase) -> TokenIds:
    """A prompt in plain text, with the begin token if the tokenizer adds one."""
    ids = tokenizer.encode(text)
    # some tokenizers append the end token to every text; a prompt must continue
    return tuple(ids[:-1] if ids[-1] == tokenizer.eos_token_id else ids)


def encode_response(text: str, tokenizer: PreTrainedTokenizerBase, style: PromptStyle = "chat") -> TokenIds:
    """The tokens of a completion's text, and the token that ends it in this style."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    return (*ids, response_end_id(tokenizer, style))


def encode_exchange(
    problem: Problem, response: str, tokenizer: PreTrainedTokenizerBase, style: PromptStyle
) -> tuple[TokenIds, TokenIds]:
    """Prompt and response as tokens; the part of the response that the prompt opens is not repeated."""
    prompt_ids = encode_prompt(problem, tokenizer, style)
    rest = after_opening(prompt_opening(prompt_ids, tokenizer), response)
    return prompt_ids, encode_response(rest, tokenizer, style)


def prompt_opening(prompt_token_ids: TokenIds, tokenizer: PreTrainedTokenizerBase) -> str:
    """The part of the response that a prompt opens (`template.opening_of`), from its last tokens."""
    return opening_of(_end_of(prompt_token_ids, tokenizer))


def has_closed_thought(prompt_token_ids: TokenIds, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a prompt ends with an empty thought, as Qwen3's does with `enable_thinking=False`."""
    return closes_thought(_end_of(prompt_token_ids, tokenizer))


def _end_of(prompt_token_ids: TokenIds, tokenizer: PreTrainedTokenizerBase) -> str:
    ids = list(prompt_token_ids[-_OPENING_TOKENS:])
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def vocabulary_fault(
    token_ids: Iterable[int], tokenizer: PreTrainedTokenizerBase, num_embeddings: int
) -> str | None:
    """The tokens that a model of `num_embeddings` has no embedding for, and what to do; or None."""
    beyond = sorted({i for i in token_ids if i >= num_embeddings})
    if not beyond:
        return None
    names = ", ".join(f"{tokenizer.convert_ids_to_tokens(i)!r} ({i})" for i in beyond[:5])
    names += f" and {len(beyond) - 5} more" if len(beyond) > 5 else ""
    return (
        f"the model has {num_embeddings} embeddings, and none for the token {names}: enlarge it with "
        "`model.resize_token_embeddings(len(tokenizer))` and save it again, or take the token out of the "
        "tokenizer"
    )


def check_chat_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise `UserError` if the chat template is missing, fails, or leaves out the user's text."""
    question: Message = {"role": "user", "content": "How many?"}
    prompt = render(tokenizer, [question], add_generation_prompt=True)
    if question["content"] not in prompt:
        raise ModelError(
            f"{name_of(tokenizer)}: its chat template leaves out what the user says; fix `chat_template` in "
            "its tokenizer_config.json"
        )


def check_begin(source: str, tokenizer: PreTrainedTokenizerBase, style: PromptStyle) -> None:
    """Raise `ModelError` if prompts do not begin with one begin token although the tokenizer asks for it.

    `source` is the folder or hub name that the tokenizer was loaded from. A tokenizer asks by `add_bos_token`
    or by its post-processor; transformers does not always comply.
    """
    begin, name = tokenizer.bos_token, name_of(tokenizer)
    if begin is None:
        return
    problem = Problem(id="", kind="general", messages=({"role": "user", "content": "How many?"},))
    prompt = encode_prompt(problem, tokenizer, style)
    # only count at the start: SmolLM2's begin token, <|im_start|>, also opens each turn
    count = sum(1 for _ in itertools.takewhile(lambda i: i == tokenizer.bos_token_id, prompt))
    if count > 1:
        raise ModelError(
            f"{name}: a prompt in the {style} style begins with {count} begin tokens ({begin}); it should be "
            "one: write it in the chat template or in the tokenizer's post-processor, not in both"
        )
    # if a chat template writes none, its model was trained without
    if tokenizer.bos_token_id in prompt or style == "chat" or not asks_for_begin(source, tokenizer):
        return
    raise ModelError(
        f"{name}: its tokenizer_config.json or tokenizer.json asks for the begin token {begin}, and as it is "
        "loaded texts are encoded without it; put a post-processor that writes it (TemplateProcessing) into "
        "its tokenizer.json, or set add_bos_token to false where the model was trained without"
    )


def check_round_trip(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise `ModelError` if encoding and decoding a response changes what the parser reads."""
    reasoning, answer = "One plus\none.", "Two."
    texts: dict[PromptStyle, str] = {
        "zero": format_zero(reasoning, answer),
        "chat": format_chat(reasoning, answer),
    }
    for style, text in texts.items():
        ids = list(encode_response(text, tokenizer, style)[:-1])
        decoded = str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        if parse_response(decoded, style) != parse_response(text, style):
            raise ModelError(
                f"{name_of(tokenizer)}: its tokenizer does not give a response back as it was: {text!r} "
                f"comes back as {decoded!r}; fix its normalizer and decoder in tokenizer.json"
            )
