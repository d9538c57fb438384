"""What doctor, plan and the start of a run say of a model's family."""

from pathlib import Path

import pytest

from r1kit.pipeline.architecture import look_at_model, slower_samplers
from r1kit.pipeline.doctor import examine
from r1kit.pipeline.run import open_run
from tests.architecture_checks import write_recipe
from tests.architectures import BY_NAME


def test_what_samples_a_model_is_said_with_the_reason(tmp_path: Path) -> None:
    BY_NAME["Phi-3"].write(tmp_path / "model")
    context = open_run(write_recipe(tmp_path, adapter=False, scorer=True))
    said = look_at_model(context, "zero")
    assert said.startswith(
        "Phi3ForCausalLM, sampled with transformers' own forward pass, slower than the local"
    )
    assert "Phi3ForCausalLM is not one of LlamaForCausalLM" in said
    assert look_at_model(context, "helpful") == "Phi3ForSequenceClassification"
    assert look_at_model(context, "warm") == "Phi3ForCausalLM"
    (note,) = slower_samplers(context)  # once, whatever the number of stages
    assert "slower than the local decoder: Phi3ForCausalLM is not one of" in note


def test_a_model_of_the_local_decoder_needs_no_note(tmp_path: Path) -> None:
    BY_NAME["Mistral Small 3 (multimodal)"].write(tmp_path / "model")
    context = open_run(write_recipe(tmp_path, adapter=False, scorer=False))
    assert look_at_model(context, "chat") == "MistralForCausalLM, sampled by the local decoder"
    assert list(slower_samplers(context)) == []


@pytest.mark.parametrize(("name", "reason"), [("LFM2", "no sequence classification"), ("Qwen3-MoE", "")])
def test_a_family_that_can_not_score_is_refused_before_the_run(
    tmp_path: Path, name: str, reason: str
) -> None:
    BY_NAME[name].write(tmp_path / "model")
    context = open_run(write_recipe(tmp_path, adapter=True, scorer=True))
    faults = [fault for check in examine(context, ask_servers=False) for fault in check.faults]
    assert len(faults) == bool(reason)
    assert all(reason in fault and "stages.helpful" in fault for fault in faults)
