"""What `r1 init` finds out about the model: size, context, how it is to be asked. No weights are loaded.

A finished model is told from a base model by its turns: its own end tokens end a turn of its chat template,
where a base model that comes with a template (Qwen2.5) ends with another token. Table 1's template asks for a
reasoning in tags, which a chat template does not, unless the model was trained to reason: those are asked as
chats, all others as Table 1 does.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from r1kit.config import suggest
from r1kit.data import hub
from r1kit.data.files import near_path
from r1kit.data.guests import guest_of
from r1kit.errors import ModelError, UserError
from r1kit.model.gguf import is_model_path
from r1kit.model.loading import (
    context_length_of,
    load_skeleton,
    load_tokenizer,
    resolve_model,
    stated_end_ids,
)
from r1kit.pipeline.recipe import is_base
from r1kit.text.template import opening_of
from r1kit.text.turns import end_token_ids, own_marks, render, turn_end_id
from r1kit.types import PromptStyle

_SIZE = re.compile(r"(?<![A-Za-z0-9])(\d+(?:\.\d+)?)\s*([bBmM])(?![A-Za-z])")
_FINISHED = re.compile(r"(?i)(?:^|[-_/.])(?:instruct|chat|it|sft|dpo|thinking|r1|distill)(?=$|[-_/.])")


@dataclass(frozen=True, slots=True)
class Model:
    """The base model of the recipe, as far as it could be looked at."""

    name: str  # as it was typed
    why: str  # in half sentences
    style: PromptStyle
    why_style: str
    num_weights: int  # 0: nobody knows
    context: int
    has_chat_template: bool = True
    tokenizer: PreTrainedTokenizerBase | None = None
    unseen: str = ""  # why it could not be looked at

    @property
    def short_name(self) -> str:
        """The last part of its path or hub name."""
        return Path(self.name).name or self.name


def look_at_model(name: str, style: PromptStyle | None = None) -> Model:
    """The model of a folder or hub name; by its name alone where the hub can't be asked.

    Raises `UserError` for what is no model.
    """
    if not name.strip():
        raise UserError("--model is empty: name a folder, a hub name such as Qwen/Qwen2.5-0.5B, or tinyworld")
    path = Path(name).expanduser()
    is_here = is_base(name) or is_model_path(path)
    if not is_here and "/" not in name and (guest := guest_of(name)) is not None:
        known = suggest(name, list(guest.checkpoints))
        raise UserError(f"--model {name}: {guest.name} has no such model; {known}")
    if not is_here:
        if path.is_file() or not hub.is_name(name):
            raise _no_such(name, path)
        if (why := hub.unreachable()) is not None and not hub.has_model(name):
            # a slip in a folder's name looks like a name on the hub
            if (path.parent != Path() and path.parent.is_dir()) or near_path(path).startswith("did you mean"):
                raise _no_such(name, path)
            return _by_name(name, style, why)
    source = resolve_model(str(path) if is_model_path(path) else name)
    skeleton = load_skeleton(source)
    tokenizer = load_tokenizer(source)
    num_weights = sum(parameter.numel() for parameter in skeleton.parameters())
    context = context_length_of(source)
    has_template = bool(tokenizer.chat_template)
    finished = not is_base(name) and _is_finished(source, tokenizer)
    reasons = has_template and _reasons(tokenizer)
    found: PromptStyle = "chat" if reasons else "zero"
    why_style = "a base model, which Table 1's template is for"
    if reasons:
        why_style = "its chat template has a place for a reasoning"
    elif finished:
        why_style = "a chat model that was not trained to reason: Table 1 tells it how"
    if style == "chat" and not has_template:
        raise ModelError(f"--style chat: {name} has no chat template; take zero, or add one to its tokenizer")
    template = "chat template" if has_template else "no chat template"
    kind = "" if is_base(name) else f"{'a chat model' if finished else 'a base model'}, "
    length = f"context {context:,}" if context < 10**9 else "any context"
    why = f"{skeleton.config.model_type}, {count(num_weights)} weights, {length}, {kind}{template}"
    said = why_style if style in (None, found) else "as you said"
    return Model(name, why, style or found, said, num_weights, context, has_template, tokenizer)


def _no_such(name: str, path: Path) -> ModelError:
    if path.is_file():
        return ModelError(
            f"{name} is a file; name the folder with config.json and the weights, or a .gguf file"
        )
    hint = near_path(path)
    return ModelError(
        f"{name}: no such folder, and no hub name (`owner/model`)" + (f"; {hint}" if hint else "")
    )


def _by_name(name: str, style: PromptStyle | None, why: str) -> Model:
    """What the name of a model says that is not here."""
    size = _SIZE.search(name.rpartition("/")[2])
    num_weights = int(float(size[1]) * (10**9 if size[2] in "bB" else 10**6)) if size else 0
    finished = _FINISHED.search(name) is not None
    said = f"about {count(num_weights)} weights by its name" if num_weights else "its size is not known"
    why_style = f"{'a chat' if finished else 'a base'} model, by its name"
    return Model(name, said, style or "zero", why_style, num_weights, 10**9, unseen=f"not looked at: {why}")


def _is_finished(source: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    turn_end = turn_end_id(tokenizer)
    if turn_end is None:
        return False
    # without the turn's own end, which `end_token_ids` would add
    stated = {i for ids in stated_end_ids(source) for i in ([ids] if isinstance(ids, int) else ids or ())}
    return turn_end in {tokenizer.eos_token_id, *stated} and turn_end in end_token_ids(tokenizer)


def _reasons(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the chat template opens a thought, or knows one in a finished turn."""
    try:
        prompt = render(tokenizer, [{"role": "user", "content": "How many?"}], add_generation_prompt=True)
    except UserError:
        return False
    return (
        bool(opening_of(prompt))
        or own_marks(tokenizer) is not None
        or "<think>" in str(tokenizer.chat_template)
    )


def count(number: int) -> str:
    """`135M`, `1.54B`."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)
