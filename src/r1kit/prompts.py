"""Problems as prompt tokens, texts as completion tokens, and whether a chat template can be trained on.

Prompt and completion are encoded apart and joined as ids: a sampled completion and one that was written
have the same tokens at the seam. Not here: the shapes of responses (`template`).
"""

from collections.abc import Iterable
from typing import Any

from transformers import PreTrainedTokenizerBase

from r1kit.errors import ModelError
from r1kit.template import format_chat, format_zero, parse_response, render_zero
from r1kit.types import Message, Problem, PromptStyle

TokenIds = tuple[int, ...]

_FIX = "set `chat_template` in its tokenizer_config.json to one that writes a turn's content as it is"


def encode_prompt(problem: Problem, tokenizer: PreTrainedTokenizerBase, style: PromptStyle) -> TokenIds:
    """The prompt of a problem: Table 1's template around its question, or the chat template around its turns.

    The zero prompt gets the begin token where the tokenizer puts one; a chat template writes its own.
    """
    if style == "chat":
        ids = tokenizer.apply_chat_template(
            list(problem.messages), add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return tuple(ids)
    return encode_text(render_zero(problem.question), tokenizer)


def encode_text(text: str, tokenizer: PreTrainedTokenizerBase) -> TokenIds:
    """A prompt that is plain text, with the begin token where the tokenizer puts one."""
    ids = tokenizer.encode(text)
    # some tokenizers end every text; a prompt goes on
    return tuple(ids[:-1] if ids[-1] == tokenizer.eos_token_id else ids)


def encode_response(text: str, tokenizer: PreTrainedTokenizerBase) -> TokenIds:
    """The tokens of a completion's text, and the end token, which is the stop token."""
    return (*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id)


def vocabulary_fault(
    token_ids: Iterable[int], tokenizer: PreTrainedTokenizerBase, num_embeddings: int
) -> str | None:
    """Which of some tokens a model with so many embeddings has no row for, and what to do; or None."""
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
    """Raise `ModelError` where the chat template is missing, or would spoil a response with reasoning.

    Spoils: it drops the reasoning of a finished turn (as DeepSeek-R1's own template does), so the text that
    a later reader gets is not what was trained; or its generation prompt opens `<think>` itself, so that a
    response in our format would open it twice.
    """
    if not tokenizer.chat_template:
        raise ModelError(f"{_name(tokenizer)}: the tokenizer has no chat template; {_FIX}")
    question: Message = {"role": "user", "content": "How many?"}
    response = format_chat("One and one.", "Two.")
    prompt = _render(tokenizer, [question], add_generation_prompt=True)
    finished = _render(tokenizer, [question, {"role": "assistant", "content": response}])
    if prompt.rstrip().endswith("<think>"):
        raise ModelError(
            f"{_name(tokenizer)}: its chat template opens <think> in the prompt, and responses here open it "
            f"themselves; {_FIX}, and leaves <think> to the response"
        )
    if not all(piece in finished for piece in ("<think>", "One and one.", "</think>", "Two.")):
        raise ModelError(
            f"{_name(tokenizer)}: its chat template drops the reasoning of a finished turn; {_FIX}"
        )


def check_round_trip(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise `ModelError` where a response that is encoded and decoded is not the same to the parser."""
    reasoning, answer = "One plus\none.", "Two."
    texts: dict[PromptStyle, str] = {
        "zero": format_zero(reasoning, answer),
        "chat": format_chat(reasoning, answer),
    }
    for style, text in texts.items():
        ids = list(encode_response(text, tokenizer)[:-1])
        decoded = str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        if parse_response(decoded, style) != parse_response(text, style):
            raise ModelError(
                f"{_name(tokenizer)}: its tokenizer does not give a response back as it was: {text!r} comes "
                f"back as {decoded!r}; mend its normalizer and decoder in tokenizer.json"
            )


def _render(tokenizer: PreTrainedTokenizerBase, messages: list[Message], **options: Any) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return tokenizer.name_or_path or "the model"
