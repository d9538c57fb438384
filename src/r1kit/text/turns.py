"""How a model's turns begin and end, according to its tokenizer, chat template and configuration files.

Several tokens may end a completion: the tokenizer's end token, those listed in `config.json` and
`generation_config.json`, and the one that the chat template writes after a finished turn. Sampling stops at
any of them. A model may also have its own marks around its reasoning, such as channels, instead of our
`<think>` tags: they are translated. Not here: prompts and responses as tokens (`prompts`), and where the
files are read (`model.loading`).
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

# The sampling fields of a generation config that are kept.
_SAMPLING = ("do_sample", "temperature", "top_p", "top_k", "min_p", "repetition_penalty")

EndIds = int | Sequence[int] | None
"""End tokens as configuration files have them: one, several or none."""


def end_token_ids(tokenizer: PreTrainedTokenizerBase, *stated: EndIds) -> tuple[int, ...]:
    """All tokens that end a completion, the tokenizer's own first; `stated` are those in configuration files.

    An ordinary word listed as an end token is ignored: it would cut off text.
    """
    known = control_token_ids(tokenizer)
    found = [tokenizer.eos_token_id, turn_end_id(tokenizer)]
    found += [token_id for ids in stated for token_id in _as_tuple(ids) if token_id in known]
    return tuple(dict.fromkeys(int(token_id) for token_id in found if token_id is not None))


def ignored_end_ids(tokenizer: PreTrainedTokenizerBase, *stated: EndIds) -> list[int]:
    """The ordinary words that configuration files list as end tokens."""
    known = control_token_ids(tokenizer)
    return sorted({token_id for ids in stated for token_id in _as_tuple(ids)} - known)


def response_end_id(tokenizer: PreTrainedTokenizerBase, style: PromptStyle) -> int:
    """The token trained after a response: in a chat, the template's end of turn if it has one."""
    end_id = turn_end_id(tokenizer) if style == "chat" else None
    return int(tokenizer.eos_token_id) if end_id is None else end_id


def turn_end_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that the chat template writes after a finished turn; None if there is none."""
    if not tokenizer.chat_template:
        return None
    return _turn_end_id(tokenizer, str(tokenizer.chat_template), tokenizer.eos_token)


# a stage asks for every response; the template and end token are arguments because they may be replaced
@lru_cache(maxsize=16)
def _turn_end_id(tokenizer: PreTrainedTokenizerBase, template: str, eos_token: str | None) -> int | None:
    try:
        finished = render(tokenizer, [_QUESTION, {"role": "assistant", "content": _ANSWER}])
    except UserError:  # reported by `check_chat_template`, if the template is used
        return None
    # whatever the template writes after the answer: its first control token ends the turn
    _, turn, behind = finished.rpartition(_ANSWER)
    ids = tokenizer.encode(behind, add_special_tokens=False) if turn else []
    known = control_token_ids(tokenizer)
    return next((int(token_id) for token_id in ids if token_id in known), None)


@dataclass(frozen=True, slots=True)
class Marks:
    """A model's own marks: before its reasoning, after it, and before an answer without reasoning."""

    opening: str
    closing: str
    bare: str

    def to_tags(self, text: str) -> str:
        """A completion with `<think>` tags in place of the marks; any other text unchanged."""
        if self.bare and text.startswith(self.bare):
            return text.removeprefix(self.bare)
        thought, closing, answer = text.partition(self.closing)
        if not thought.startswith(self.opening):
            return text
        thought = f"<think>{thought.removeprefix(self.opening)}"
        return f"{thought}</think>{answer}" if closing else thought


def own_marks(tokenizer: PreTrainedTokenizerBase) -> Marks | None:
    """The marks that the chat template writes around reasoning; None if it has none, or uses our tags."""
    return _own_marks(tokenizer, str(tokenizer.chat_template)) if tokenizer.chat_template else None


@lru_cache(maxsize=16)
def _own_marks(tokenizer: PreTrainedTokenizerBase, template: str) -> Marks | None:
    answer: Any = {"role": "assistant", "content": _ANSWER}
    # the field names under which templates look for reasoning
    thought = dict.fromkeys(("reasoning_content", "reasoning", "thinking"), _REASONING)
    # the marks are the differences between rendering the same turn with and without reasoning
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
    """The tokens that are not ordinary text: special ones, and those added to the vocabulary."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return {*tokenizer.all_special_ids, *added}


def configured_ends(generation: GenerationConfig | None, config: PreTrainedConfig) -> tuple[EndIds, ...]:
    """The end tokens listed in a model's generation config and configuration."""
    parts = (generation, config, config.get_text_config())
    return tuple(getattr(part, "eos_token_id", None) for part in parts)


def generation_config(
    base: GenerationConfig, tokenizer: PreTrainedTokenizerBase, ends: tuple[int, ...]
) -> GenerationConfig:
    """The generation config to export: end, pad and begin tokens, and the base model's sampling settings."""
    sampling = {name: value for name in _SAMPLING if (value := getattr(base, name, None)) is not None}
    config = GenerationConfig(
        **sampling,
        eos_token_id=one_or_list(ends),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )
    try:
        config.validate(strict=True)
    except ValueError:  # a temperature without `do_sample`, which transformers refuses to save
        config.do_sample = True
    return config


def one_or_list(ids: tuple[int, ...]) -> int | list[int]:
    """End tokens in the form used by configuration files."""
    return ids[0] if len(ids) == 1 else list(ids)


def _as_tuple(ids: EndIds) -> tuple[int, ...]:
    if ids is None:
        return ()
    return (ids,) if isinstance(ids, int) else tuple(ids)


def render(tokenizer: PreTrainedTokenizerBase, messages: Iterable[Message], **options: Any) -> Any:
    """The messages rendered by the chat template: text, or tokens with `tokenize=True`.

    Raises `ModelError` if there is no template, `DataError` if it rejects the conversation.
    """
    name, turns = name_of(tokenizer), list(messages)
    if not tokenizer.chat_template:
        raise ModelError(
            f"{name}: the tokenizer has no chat template; set `chat_template` in its tokenizer_config.json, "
            "name a model that has one, or use Table 1's template (the style zero)"
        )
    try:
        return tokenizer.apply_chat_template(turns, **{"tokenize": False, "return_dict": False, **options})
    # a template is third-party code and may raise any of these
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        roles = ", ".join(turn["role"] for turn in turns)
        raise DataError(
            f"the chat template of {name} takes no conversation of {roles}: {_first_line(error)}; leave such "
            "rows out, put a system turn's words into the first user turn, or fix `chat_template` in its "
            "tokenizer_config.json"
        ) from None


def asks_for_begin(source: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer's files ask for a begin token before every text."""
    settings = _read_json(source, "tokenizer_config.json")
    if settings.get("add_bos_token") is not None:
        return bool(settings["add_bos_token"])
    processor = json.dumps(_read_json(source, "tokenizer.json").get("post_processor"), ensure_ascii=False)
    return json.dumps(tokenizer.bos_token, ensure_ascii=False) in processor


def _read_json(source: str, name: str) -> dict[str, Any]:
    """A file from a model's folder or hub page; {} if it does not exist."""
    path = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
    if path is None:
        return {}
    found = json.loads(Path(path).read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def name_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """The name of a tokenizer's model in messages."""
    return tokenizer.name_or_path or "the model"


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
