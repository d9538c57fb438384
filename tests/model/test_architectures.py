"""Families of models: tiny random ones are sampled, trained, saved and read again, and the numbers agree."""

from pathlib import Path

import pytest
import torch

from r1kit.errors import ModelError
from r1kit.model.loading import load_model, load_skeleton, load_tokenizer
from r1kit.model.logprobs import check_head
from r1kit.model.lora import LoraConfig, check_lora, expert_weights
from r1kit.model.scorers import load_scoring_tokenizer
from r1kit.pipeline.run import run_recipe
from r1kit.sampling.local import why_unsupported
from tests.architecture_checks import sampler_error, saved_error, scorer_error, trainer_error, write_recipe
from tests.architectures import ARCHITECTURES, BY_NAME

LORA = LoraConfig(rank=2, alpha=4)
# one for each thing that can be different: fused projections, windows with caps and scales, text inside of a
# multimodal model, experts, a state
FAST = (
    "Phi-3",
    "Gemma 2",
    "Gemma 3 (multimodal)",
    "Qwen3-MoE",
    "gpt-oss",
    "LFM2",
    "Granite",
    "Mistral Small 3 (multimodal)",
)
NAMES = [
    pytest.param(a.name, id=a.name, marks=() if a.name in FAST else pytest.mark.slow) for a in ARCHITECTURES
]
# transformers 5.23 has no sequence classification for these, or no linear layers for adapters
WITHOUT_SCORER = {
    "qwen3_5_moe_text", "olmoe", "olmo_hybrid", "granite", "granitemoe", "granitemoehybrid", "glm4_moe",
    "lfm2", "lfm2_moe", "falcon_h1", "ernie4_5", "apertus", "cohere", "cohere2", "nanochat", "mamba",
    "llama4_text", "rwkv",
}  # fmt: skip
WITHOUT_ADAPTER = {"gpt2"}


@pytest.mark.parametrize("name", NAMES)
def test_sampler_and_trainer_give_the_model_s_own_logprobs(tmp_path: Path, name: str) -> None:
    folder = str(BY_NAME[name].write(tmp_path / "model"))
    model = load_model(folder)
    check_head(model)
    assert sampler_error(model, load_tokenizer(folder)) < 1e-4
    assert trainer_error(model) < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_what_is_trained_is_what_is_saved_with_and_without_an_adapter(tmp_path: Path, name: str) -> None:
    architecture = BY_NAME[name]
    source = architecture.write(tmp_path / "model")
    assert saved_error(source, tmp_path / "whole", None) < 1e-6
    if architecture.model_type in WITHOUT_ADAPTER:
        with pytest.raises(ModelError, match="no torch linear layers"):
            check_lora(load_skeleton(str(source)), LORA)
    else:
        assert saved_error(source, tmp_path / "adapted", LORA) < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_a_reward_model_reads_padded_rows_as_it_reads_them_alone(tmp_path: Path, name: str) -> None:
    architecture = BY_NAME[name]
    source = architecture.write(tmp_path / "model")
    if architecture.model_type in WITHOUT_SCORER:
        with pytest.raises(ModelError, match="no sequence classification for the model type"):
            load_skeleton(str(source), scorer=True)
    else:
        assert scorer_error(source) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", [a.name for a in ARCHITECTURES])
def test_a_recipe_of_all_kinds_of_training_runs_and_is_evaluated(tmp_path: Path, name: str) -> None:
    model_type = BY_NAME[name].model_type
    BY_NAME[name].write(tmp_path / "model")
    recipe = write_recipe(
        tmp_path, adapter=model_type not in WITHOUT_ADAPTER, scorer=model_type not in WITHOUT_SCORER
    )
    result = run_recipe(recipe, output_dir=tmp_path / "run")
    assert all(row.state == "done" for row in result.rows)
    exported = load_model(str(result.folder / "chat" / "model"))
    assert all(bool(torch.isfinite(weight).all()) for weight in exported.parameters())


def test_a_multimodal_checkpoint_becomes_its_text_model(tmp_path: Path) -> None:
    source = BY_NAME["Gemma 3 (multimodal)"].write(tmp_path / "model")
    model = load_model(str(source))
    assert type(model).__name__ == "Gemma3ForCausalLM"
    assert type(load_skeleton(str(source))).__name__ == "Gemma3ForCausalLM"
    assert not any("vision" in name for name, _ in model.named_parameters())
    # its head is tied by the whole configuration, whatever the text part says
    small = load_model(str(BY_NAME["Mistral Small 3 (multimodal)"].write(tmp_path / "small")))
    assert small.config.tie_word_embeddings == (
        small.get_output_embeddings().weight is small.get_input_embeddings().weight
    )
    assert why_unsupported(small) is None
    assert small.config is small.get_decoder().config  # packed rows would attend across else


def test_experts_get_an_adapter_each_and_dropout_on_them_is_refused(tmp_path: Path) -> None:
    skeleton = load_skeleton(str(BY_NAME["Qwen3-MoE"].write(tmp_path / "model")))
    assert [name.rpartition(".")[2] for name in expert_weights(skeleton)] == ["gate_up_proj", "down_proj"] * 2
    with pytest.raises(ModelError, match=r"dropout = 0\.1 is not possible on the experts"):
        check_lora(skeleton, LoraConfig(dropout=0.1))
    with pytest.raises(ModelError, match=r"'gate_proj'.*experts' matrices are down_proj, gate_up_proj"):
        check_lora(skeleton, LoraConfig(target_modules=["gate_proj"]))
    check_lora(skeleton, LoraConfig(dropout=0.1, target_modules=["q_proj"]))


def test_logits_that_a_family_changes_in_its_own_way_are_refused(tmp_path: Path) -> None:
    model = load_model(str(BY_NAME["Qwen3"].write(tmp_path / "model")))
    check_head(model)
    model.lm_head.register_forward_hook(lambda *_: None)
    before = model.forward

    def doubled(*inputs, **options):
        output = before(*inputs, **options)
        output.logits = output.logits * 2
        return output

    model.forward = doubled
    with pytest.raises(ModelError, match="transforms its logits in a way"):
        check_head(model)


def test_a_tokenizer_without_a_pad_token_of_its_own_gets_one_for_scores(tmp_path: Path) -> None:
    source = BY_NAME["Qwen2.5"].write(tmp_path / "model")
    tokenizer = load_tokenizer(str(source))
    tokenizer.pad_token = tokenizer.eos_token  # as Qwen2.5's base models have it
    tokenizer.save_pretrained(source)
    padded = load_scoring_tokenizer(str(source))
    assert padded.pad_token_id == 1024 != padded.eos_token_id
    assert scorer_error(source) < 1e-5
