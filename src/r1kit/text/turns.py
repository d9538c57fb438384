"""How a model's turns begin and end, as its tokenizer, its chat template and its configurations have it.

Several tokens may end a completion: the tokenizer's end token, those that `config.json` and
`generation_config.json` list, and the one that the chat template puts behind a finished turn. Sampling stops
at any of them. A model may also have marks of its own around its reasoning, such as channels, where ours are
`<think>` tags: what it writes is read in its own. Not here: prompts and responses as tokens (`prompts`), and
where the files are read (`model.loading`).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.utils import cached_file

from r1kit.errors import DataError, ModelError, UserError
from r1kit.types import Message, PromptStyle

_QUESTION: Message = {"role": "user", "content": "How many?"}
_ANSWER = "Eleven"
_REASONING = "Seven and four"

# What a generation config says of how to sample.
_SAMPLING = ("do_sample", "temperature", "top_p", "top_k", "min_p", "repetition_penalty")

EndIds = int | Sequence[int] | None
"""End tokens as configurations have them: one, several or none."""


def end_token_ids(tokenizer: PreTrainedTokenizerBase, *stated: EndIds) -> tuple[int, ...]:
    """All tokens that end a completion, the tokenizer's own first; `stated` are those of configurations.

    An ordinary word that a configuration names is no end: text would be cut off at it.
    """
    known = control_token_ids(tokenizer)
    found = [tokenizer.eos_token_id, turn_end_id(tokenizer)]
    found += [token_id for ids in stated for token_id in _as_tuple(ids) if token_id in known]
    return tuple(dict.fromkeys(int(token_id) for token_id in found if token_id is not None))


def ignored_end_ids(tokenizer: PreTrainedTokenizerBase, *stated: EndIds) -> list[int]:
    """What configurations name as an end though it is an ordinary word."""
    known = control_token_ids(tokenizer)
    return sorted({token_id for ids in stated for token_id in _as_tuple(ids)} - known)


def response_end_id(tokenizer: PreTrainedTokenizerBase, style: PromptStyle) -> int:
    """The token that is trained behind a response: in a chat the template's end of a turn, if it has one."""
    end_id = turn_end_id(tokenizer) if style == "chat" else None
    return int(tokenizer.eos_token_id) if end_id is None else end_id


def turn_end_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that the chat template puts behind a finished turn; None where there is none."""
    if not tokenizer.chat_template:
        return None
    return _turn_end_id(tokenizer, str(tokenizer.chat_template), tokenizer.eos_token)


# a stage asks once for every response; the template and the end token may be set on a tokenizer
@lru_cache(maxsize=16)
def _turn_end_id(tokenizer: PreTrainedTokenizerBase, template: str, eos_token: str | None) -> int | None:
    try:
        finished = render(tokenizer, [_QUESTION, {"role": "assistant", "content": _ANSWER}])
    except UserError:  # said by `check_chat_template`, where the template is used
        return None
    _, turn, behind = finished.rpartition(_ANSWER)
    ids = tokenizer.encode(behind, add_special_tokens=False) if turn else []
    known = control_token_ids(tokenizer)
    return next((int(token_id) for token_id in ids if token_id in known), None)


@dataclass(frozen=True, slots=True)
class Marks:
    """A model's own marks: in front of its reasoning, behind it, and in front of an answer without one."""

    opening: str
    closing: str
    bare: str

    def to_tags(self, text: str) -> str:
        """A completion with `<think>` tags in place of the marks; any other text as it is."""
        if self.bare and text.startswith(self.bare):
            return text.removeprefix(self.bare)
        thought, closing, answer = text.partition(self.closing)
        if not thought.startswith(self.opening):
            return text
        thought = f"<think>{thought.removeprefix(self.opening)}"
        return f"{thought}</think>{answer}" if closing else thought


def own_marks(tokenizer: PreTrainedTokenizerBase) -> Marks | None:
    """The marks that the chat template puts around a reasoning; None where it has none, or our tags."""
    return _own_marks(tokenizer, str(tokenizer.chat_template)) if tokenizer.chat_template else None


@lru_cache(maxsize=16)
def _own_marks(tokenizer: PreTrainedTokenizerBase, template: str) -> Marks | None:
    answer: Any = {"role": "assistant", "content": _ANSWER}
    # the names that templates know a reasoning by
    thought = dict.fromkeys(("reasoning_content", "reasoning", "thinking"), _REASONING)
    try:
        prompt = render(tokenizer, [_QUESTION], add_generation_prompt=True)
        with_thought = render(tokenizer, [_QUESTION, answer | thought])
        without = render(tokenizer, [_QUESTION, answer])
    except UserError:
        return None
    if not with_thought.startswith(prompt):
        return None
    opening, is_there, behind = with_thought.removeprefix(prompt).partition(_REASONING)
    closing, _, _ = behind.partition(_ANSWER)
    if not is_there or not closing.strip() or "<think>" in with_thought:
        return None
    bare = without.removeprefix(prompt).partition(_ANSWER)[0] if without.startswith(prompt) else ""
    return Marks(opening, closing, bare)


def control_token_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens that are no ordinary text: special ones, and those that were added to the vocabulary."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return {*tokenizer.all_special_ids, *added}


def configured_ends(generation: GenerationConfig | None, config: PreTrainedConfig) -> tuple[EndIds, ...]:
    """The end tokens that a model's generation config and configuration name."""
    parts = (generation, config, config.get_text_config())
    return tuple(getattr(part, "eos_token_id", None) for part in parts)


def generation_config(
    base: GenerationConfig, tokenizer: PreTrainedTokenizerBase, ends: tuple[int, ...]
) -> GenerationConfig:
    """What is exported: end, pad and begin tokens, and how the base's own config says to sample."""
    sampling = {name: value for name in _SAMPLING if (value := getattr(base, name, None)) is not None}
    config = GenerationConfig(
        **sampling,
        eos_token_id=one_or_list(ends),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )
    try:
        config.validate(strict=True)
    except ValueError:  # a temperature without `do_sample`, which transformers refuses to write
        config.do_sample = True
    return config


def one_or_list(ids: tuple[int, ...]) -> int | list[int]:
    """End tokens as configurations have them."""
    return ids[0] if len(ids) == 1 else list(ids)


def _as_tuple(ids: EndIds) -> tuple[int, ...]:
    if ids is None:
        return ()
    return (ids,) if isinstance(ids, int) else tuple(ids)


def render(tokenizer: PreTrainedTokenizerBase, messages: Iterable[Message], **options: Any) -> Any:
    """What the chat template makes of the messages: text, or tokens with `tokenize=True`.

    Raises `ModelError` where there is no template, `DataError` where it refuses the conversation.
    """
    name, turns = name_of(tokenizer), list(messages)
    if not tokenizer.chat_template:
        raise ModelError(
            f"{name}: the tokenizer has no chat template; set `chat_template` in its tokenizer_config.json, "
            "name a model that has one, or use Table 1's template (the style zero)"
        )
    try:
        return tokenizer.apply_chat_template(turns, **{"tokenize": False, "return_dict": False, **options})
    # a template is somebody's program
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        roles = ", ".join(turn["role"] for turn in turns)
        raise DataError(
            f"the chat template of {name} takes no conversation of {roles}: {_first_line(error)}; leave such "
            "rows out, put a system turn's words into the first user turn, or mend `chat_template` in its "
            "tokenizer_config.json"
        ) from None


def asks_for_begin(source: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the files of a tokenizer ask for a begin token in front of every text."""
    settings = _read_json(source, "tokenizer_config.json")
    if settings.get("add_bos_token") is not None:
        return bool(settings["add_bos_token"])
    processor = json.dumps(_read_json(source, "tokenizer.json").get("post_processor"), ensure_ascii=False)
    return json.dumps(tokenizer.bos_token, ensure_ascii=False) in processor


def _read_json(source: str, name: str) -> dict[str, Any]:
    """A file of a model's folder or hub page; nothing where there is none."""
    path = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
    if path is None:
        return {}
    found = json.loads(Path(path).read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def name_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """What messages call the model of a tokenizer."""
    return tokenizer.name_or_path or "the model"


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
