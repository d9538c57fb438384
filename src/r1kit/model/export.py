"""The names that transformers 4.57, and tools that follow it, look for in a saved folder.

transformers 5 writes rope parameters in a table of its own, some sizes under other names, and a tokenizer
class that 4.x lacks. 4.57 then silently assumes a rope theta of 10,000 or 128 experts, and fails to load the
tokenizer. So the older names are written beside the new ones; 5.x reads either. Not covered: models unknown
to 4.57, and Granite 4's hybrids, whose layers have other names there.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_TOKENIZER_CLASS, _OLDER_TOKENIZER_CLASS = "TokenizersBackend", "PreTrainedTokenizerFast"
# Model types with one rope table per layer type. The older names describe the global layers' table; Gemma 3
# also has a name for the local layers' base.
_NESTED_TYPES = ("gemma3_text", "gemma3n_text", "olmo3")
_GLOBAL, _LOCAL, _LOCAL_BASE = "full_attention", "sliding_attention", "rope_local_base_freq"
_ORIGINAL_LENGTH = "original_max_position_embeddings"


def write_older_names(folder: Path, aliases: Mapping[str, str]) -> None:
    """Add the names that transformers 4.57 looks for to a saved folder's configuration and tokenizer.

    `aliases` maps a configuration's other names to the written ones (its `attribute_map`): Qwen3-MoE's
    `num_experts` is written as `num_local_experts`.
    """

    def with_older_names(config: dict[str, Any]) -> dict[str, Any]:
        other = {name: config[written] for name, written in aliases.items() if written in config}
        return _with_older_rope({**other, **config})

    _rewrite(folder / "config.json", with_older_names)
    _rewrite(folder / "tokenizer_config.json", _with_older_tokenizer)


def _with_older_rope(config: dict[str, Any]) -> dict[str, Any]:
    """`rope_theta`, `rope_scaling` and `partial_rotary_factor` beside `rope_parameters`."""
    table = config.get("rope_parameters")
    if not isinstance(table, dict):
        return config
    older: dict[str, Any] = {}
    if config.get("model_type") in _NESTED_TYPES:
        older[_LOCAL_BASE] = table[_LOCAL]["rope_theta"]
        table = table[_GLOBAL]
    elif any(isinstance(part, dict) for part in table.values()):
        return config  # the older names hold one table, which 5.x would use for all layers
    rope = {name: value for name, value in table.items() if value is not None}
    for name in ("rope_theta", "partial_rotary_factor"):
        if name in rope:
            older[name] = rope.pop(name)
    if rope.get("rope_type") == "longrope":  # 4.57 accepts exactly these three fields
        older[_ORIGINAL_LENGTH] = rope.pop(_ORIGINAL_LENGTH, None) or config.get(_ORIGINAL_LENGTH)
        rope = {"type": "longrope", **{name: rope[name] for name in ("short_factor", "long_factor")}}
    older["rope_scaling"] = rope if rope.get("type", rope.get("rope_type", "default")) != "default" else None
    return {**older, **config}


def _with_older_tokenizer(config: dict[str, Any]) -> dict[str, Any]:
    if config.get("tokenizer_class") == _TOKENIZER_CLASS:
        config = {**config, "tokenizer_class": _OLDER_TOKENIZER_CLASS}
    if isinstance(config.get("extra_special_tokens"), list):  # 4.57 expects a dict of names here
        listed = config.pop("extra_special_tokens")
        config["additional_special_tokens"] = listed
    return config


def _rewrite(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(change(found), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
