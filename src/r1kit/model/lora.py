"""LoRA with peft (Hu et al., 2106.09685): low-rank matrices beside frozen weights, merged at the end.

A linear layer computes W x + (alpha / rank) B A x, where only A and B are trained; B starts at zero, so the
model with its adapter off is the stage's starting model. Only A and B have gradients, optimizer state and
checkpoints. Samplers get W + (alpha / rank) B A, one matrix at a time, added in float32 and rounded once to
W's dtype. W itself changes only in the final merge, which gives the same bits.
In transformers 5 the experts of a mixture are one parameter [experts, ., .]; each expert gets its own A and B
(peft's `target_parameters`). Routers are not linear layers there and stay frozen.
Not covered: adapters on embeddings and heads, quantized weights, sharded parameters.
"""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from r1kit.config import Config, suggest
from r1kit.errors import ModelError

# Their state-space layers may pass `out_proj.weight` straight to a kernel (peft 0.21, tuners_utils.py).
_BYPASSING_TYPES = ("falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h")
_POLICY, _REFERENCE = "default", "reference"  # the names of the two adapters; peft saves "default" flat


class LoraConfig(Config):
    """The adapter. At any rank, it needs about ten times the learning rate of full training.

    That factor and the sizes are from "LoRA Without Regret" (Thinking Machines, 2025): adapters on all linear
    layers, alpha 32; low ranks are enough for reinforcement learning.
    """

    rank: int = Field(default=32, ge=1)  # the inner width of the two matrices beside each layer
    alpha: float = Field(default=32.0, gt=0)  # the adapter is scaled by alpha / rank
    # On the adapter's inputs, seeded per update. GRPO refuses it: its probability ratio would be noise.
    dropout: float = Field(default=0.0, ge=0, lt=1)
    # "all-linear": every linear layer except the head, including the experts' matrices; else name suffixes:
    # ["q_proj", "v_proj"].
    target_modules: Literal["all-linear"] | list[str] = "all-linear"

    @field_validator("target_modules")
    @classmethod
    def _names_something(cls, names: Any) -> Any:
        if not names:
            raise ValueError('name the layers that get an adapter, or use "all-linear"')
        return names


class Lora:
    """A model with an adapter. The model stays the same object; its linear layers are wrapped."""

    def __init__(self, model: PreTrainedModel, config: LoraConfig, *, seed: int) -> None:
        """Freeze the model's weights and add an adapter drawn from `seed`. A score head is fully trained.

        Raises `ModelError` if peft is missing or a layer can't have an adapter.
        """
        peft = check_lora(model, config)
        if any(isinstance(parameter, DTensor) for parameter in model.parameters()):
            raise ModelError("LoRA on sharded parameters is not supported; drop `lora`, or do not shard")
        is_scorer = not model.can_generate()
        self.model = model
        self._peft_config = peft.LoraConfig(
            task_type="SEQ_CLS" if is_scorer else "CAUSAL_LM",  # with the first, peft trains the score head
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            target_modules=[name for name in linear_layers(model) if is_target(name, config)],
            target_parameters=[name for name in expert_weights(model) if is_target(name, config)] or None,
        )
        self._seed = seed
        self._has_reference = False
        with _seeded(seed), _quiet(), _own_names():
            # adapters in the model's own dtype: float32 ones would need casts around each product
            self._peft = peft.get_peft_model(model, self._peft_config, _POLICY, autocast_adapter_dtype=False)

    @property
    def has_dropout(self) -> bool:
        """Whether training draws random numbers."""
        return bool(self._peft_config.lora_dropout)

    def merged_weights(self) -> Iterator[tuple[str, Tensor]]:
        """The weights of the equivalent model without adapters, by Hugging Face names.

        Merges one matrix at a time; the model does not change.
        """
        layers = {_adapted(name, layer): layer for name, layer in self._layers()}
        for name, tensor in self.model.state_dict().items():
            plain = name.replace(".base_layer", "").replace(f".modules_to_save.{_POLICY}.", ".")
            if plain in layers:
                yield plain, _merged(layers[plain])
            elif ".lora_" not in name and ".original_module." not in name:
                yield plain, tensor

    @contextmanager
    def as_reference(self) -> Iterator[None]:
        """Make the model compute as its reference within the context: the last refresh, or the start."""
        if not self._has_reference:
            with self._peft.disable_adapter():
                yield
            return
        self._peft.set_adapter(_REFERENCE, inference_mode=True)
        try:
            yield
        finally:
            self._peft.set_adapter(_POLICY)

    @torch.no_grad()
    def refresh_reference(self) -> None:
        """Make the current adapter the reference, as a frozen second adapter."""
        self._add_reference()
        for _, layer in self._layers():
            for matrices in (layer.lora_A, layer.lora_B):
                matrices[_REFERENCE].weight.copy_(matrices[_POLICY].weight)

    def reference_state(self) -> dict[str, Tensor] | None:
        """The second adapter's matrices; None while the reference is still the start."""
        if not self._has_reference:
            return None
        return {name: p.detach() for name, p in self.model.named_parameters() if f".{_REFERENCE}." in name}

    @torch.no_grad()
    def load_reference_state(self, state: dict[str, Tensor] | None) -> None:
        """Restore `reference_state` to the bit."""
        if state is None:
            return
        self._add_reference()
        for name, tensor in state.items():
            self.model.get_parameter(name).copy_(tensor)

    def save(self, folder: Path) -> None:
        """Write the adapter so that peft's `PeftModel.from_pretrained(base, folder)` loads it."""
        with _quiet():
            self._peft.save_pretrained(str(folder), selected_adapters=[_POLICY], save_embedding_layers=False)
        # peft writes a set, in an order that changes with each process: equal runs leave equal files
        path = folder / "adapter_config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(names := config["target_modules"], list):
            config["target_modules"] = sorted(names)
        path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")

    @torch.no_grad()
    def merge(self) -> None:
        """Turn the model back into a plain one with `merged_weights`; training ends here."""
        for _, layer in self._layers():
            _weight(layer).copy_(_merged(layer))
        self._peft.unload()

    def _layers(self) -> Iterator[tuple[str, Any]]:
        """The layers that have an adapter, with their names."""
        for name, module in self.model.named_modules():
            if hasattr(module, "lora_A") and hasattr(module, "get_base_layer"):
                yield name, module

    def _add_reference(self) -> None:
        if self._has_reference:
            return
        with _seeded(self._seed), _quiet(), _own_names():  # the caller overwrites the drawn values
            self._peft.add_adapter(_REFERENCE, self._peft_config, autocast_adapter_dtype=False)
        self._peft.set_adapter(_POLICY)  # freezes the other
        self._has_reference = True


def check_lora(model: PreTrainedModel, config: LoraConfig) -> Any:
    """The peft module. Raises `ModelError` if it is missing or the model lacks the configured layers."""
    peft = _peft()
    _check_targets(model, config)
    return peft


def linear_layers(model: PreTrainedModel) -> list[str]:
    """The names of the layers that "all-linear" stands for: every linear layer except the head.

    Leaves out layers that compute more than a product (routers), and layers whose weight a state-space layer
    reads without calling them; peft refuses these.
    """
    head = model.get_output_embeddings() if model.can_generate() else getattr(model, "score", None)
    bypassed = "out_proj" if model.config.get_text_config().model_type in _BYPASSING_TYPES else None
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and type(module).forward is torch.nn.Linear.forward
        and module is not head
        and name.rpartition(".")[2] != bypassed
    ]


def expert_weights(model: PreTrainedModel) -> list[str]:
    """The names of the parameters that hold one matrix per expert of a mixture."""
    return [
        name
        for name, parameter in model.named_parameters()
        if parameter.dim() == 3 and parameter.shape[0] > 1 and "expert" in name
    ]


def is_target(name: str, config: LoraConfig) -> bool:
    """Whether the layer or expert parameter with this full name gets an adapter."""
    if config.target_modules == "all-linear":
        return True
    return any(name == target or name.endswith(f".{target}") for target in config.target_modules)


def _check_targets(model: PreTrainedModel, config: LoraConfig) -> None:
    """Raise `ModelError` for a target that is not a linear layer of the model."""
    experts = expert_weights(model)
    names = linear_layers(model) + experts
    known = sorted({name.rpartition(".")[2] for name in names})
    if not names:
        raise ModelError(f"LoRA: {type(model).__name__} has no torch linear layers to adapt")
    targets = [] if config.target_modules == "all-linear" else config.target_modules
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            stacked = ", ".join(sorted({name.rpartition(".")[2] for name in experts}))
            raise ModelError(
                f"lora.target_modules names {target!r}, which is not one of the linear layers of "
                f"{type(model).__name__} that can be adapted; {suggest(target, known)}"
                + (f"; its experts' matrices are {stacked}" if experts else "")
            )
    if config.dropout and any(is_target(name, config) for name in experts):
        raise ModelError(
            f"lora.dropout = {config.dropout:g} is not possible on the experts of {type(model).__name__}, "
            "because peft has no dropout there; set it to 0, or name other layers in target_modules"
        )


def _adapted(name: str, layer: Any) -> str:
    """The plain model's name for the weight that a layer's adapter belongs to."""
    return name.replace(".base_layer", "") + "." + getattr(layer, "parameter_name", "weight")


def _weight(layer: Any) -> Tensor:
    """The weight that an adapted layer's adapter belongs to."""
    weight: Tensor = getattr(layer.get_base_layer(), getattr(layer, "parameter_name", "weight"))
    return weight.detach()


def _merged(layer: Any) -> Tensor:
    """W + (alpha / rank) B A of one layer, or of each expert, added in float32 and returned in W's dtype."""
    weight = _weight(layer)
    if hasattr(layer, "parameter_name"):  # a stacked parameter: one product per expert
        left, right, scale = layer.get_delta_factors(_POLICY)
        delta = left.detach().float() @ right.detach().float() * scale
    else:
        a, b = (matrices[_POLICY].weight.detach().float() for matrices in (layer.lora_A, layer.lora_B))
        delta = b @ a * layer.scaling[_POLICY]
    merged: Tensor = weight.float() + delta
    return merged.to(weight.dtype)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the CPU generator, which peft draws adapters from, and restore its state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' warnings that peft uses deprecated names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


@contextmanager
def _own_names() -> Iterator[None]:
    """Make peft adapt exactly the layers that are named.

    For models with experts it would read the names as transformers 4's, and adapt the experts instead of a
    dense layer called `gate_proj`.
    """
    from peft.utils import transformers_weight_conversion as conversion

    before = conversion.convert_peft_config_for_transformers
    conversion.convert_peft_config_for_transformers = lambda *_, **__: None
    try:
        yield
    finally:
        conversion.convert_peft_config_for_transformers = before


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ModelError(
            f"LoRA needs peft, which can't be imported ({error}); install it: pip install 'r1kit[lora]'"
        ) from None
    return peft
