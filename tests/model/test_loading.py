"""Loading and saving, and the sentence for everything that can't be loaded."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from r1kit.errors import ModelError
from r1kit.model.loading import (
    context_length,
    load_model,
    load_tokenizer,
    pick_device,
    resolve_model,
    save_model,
)
from r1kit.model.scorers import load_reward_model
from tests.bounds import assert_same
from tests.tiny_models import CHAT_TEMPLATE, tiny_model, tiny_tokenizer


@pytest.mark.parametrize("architecture", ["qwen3", "qwen2", "llama", "mistral"])
def test_a_saved_model_is_loaded_by_transformers_with_the_same_weights(tmp_path, architecture):
    source = tiny_model(tmp_path / "source", architecture)
    model, tokenizer = load_model(str(source)), load_tokenizer(str(source))
    assert not model.training
    assert context_length(model) == 1024
    save_model(model, tokenizer, tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", dtype=torch.float32)
    for (name, ours), (_, theirs) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    reread = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert reread.chat_template == CHAT_TEMPLATE
    assert reread.encode("<think>\n12</think>") == tokenizer.encode("<think>\n12</think>")


def test_a_saved_model_names_its_ends_and_keeps_the_sampling_defaults_of_its_base(tmp_path):
    source = tiny_model(tmp_path / "source")
    model, tokenizer = load_model(str(source)), load_tokenizer(str(source))
    # 7 is a letter: no end
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.05, eos_token_id=[7, 0]
    )
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "stale.txt").write_text("of an earlier run")
    save_model(model, tokenizer, tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    config.pop("transformers_version")
    assert config == {
        "do_sample": True,
        "temperature": 0.7,
        "top_p": 0.8,
        "top_k": 20,
        "repetition_penalty": 1.05,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["saved", "source"]
    assert not (tmp_path / "saved" / "stale.txt").exists()


def test_a_save_that_fails_leaves_the_old_folder_and_nothing_aside(tmp_path, monkeypatch):
    source = tiny_model(tmp_path / "source")
    model, tokenizer = load_model(str(source)), load_tokenizer(str(source))
    save_model(model, tokenizer, tmp_path / "saved")

    def fail(folder):
        raise OSError("no")

    monkeypatch.setattr(tokenizer, "save_pretrained", fail)
    with pytest.raises(OSError, match="no"):
        save_model(model, tokenizer, tmp_path / "saved")
    load_model(str(tmp_path / "saved"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["saved", "source"]


def test_a_tokenizer_without_pad_token_pads_with_its_end_token(tmp_path):
    tiny_model(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path)).pad_token_id == tokenizer.eos_token_id


def test_a_reward_model_starts_from_a_causal_model_with_a_seeded_head(tmp_path):
    source = str(tiny_model(tmp_path / "source"))
    first, again, other = (load_reward_model(source, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.score.weight, again.score.weight)
    assert not torch.equal(first.score.weight, other.score.weight)
    assert first.score.weight.shape == (1, 32)
    causal = load_model(source)
    assert torch.equal(first.model.embed_tokens.weight, causal.model.embed_tokens.weight)


@pytest.mark.numerical
def test_a_reward_model_scores_padded_rows_as_it_scores_them_alone_and_survives_saving(tmp_path):
    source = str(tiny_model(tmp_path / "source"))
    model, tokenizer = load_reward_model(source, seed=3), load_tokenizer(source)
    pad = tokenizer.pad_token_id
    save_model(model, tokenizer, tmp_path / "saved")
    again = load_reward_model(str(tmp_path / "saved"), seed=9)
    with torch.no_grad():
        rows = model(torch.tensor([[5, 6, 7, 0], [8, 0, pad, pad]])).logits.flatten()
        alone = model(torch.tensor([[8, 0]])).logits.flatten()
        reread = again(torch.tensor([[8, 0]])).logits.flatten()
    assert_same(rows[1:], alone, model, scale=1.0)
    assert torch.equal(reread, alone)


def test_dtypes_and_devices_are_names(tmp_path):
    source = str(tiny_model(tmp_path))
    assert load_model(source, dtype="bfloat16").dtype == torch.bfloat16
    with pytest.raises(ModelError, match="dtype 'fp32' is not known; known are float32"):
        load_model(source, dtype="fp32")
    assert pick_device("cpu") == "cpu"
    assert pick_device("auto") in ("cpu", "cuda")


def test_a_device_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match=r"device 'cuda:1'.*use `auto` or `cpu`"):
        pick_device("cuda:1")


def test_the_embedded_models_have_names():
    assert resolve_model("tinyworld").endswith("base")
    assert resolve_model("tinyworld-small").endswith("small")
    assert resolve_model("Qwen/Qwen2.5-1.5B") == "Qwen/Qwen2.5-1.5B"


def test_what_is_no_model_is_named_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cases = {}
    cases[str(tmp_path / "missing")] = "no such folder"
    (tmp_path / "empty").mkdir()
    cases[str(tmp_path / "empty")] = "not a model folder: there is no config.json"
    (tmp_path / "file").write_text("")
    cases[str(tmp_path / "file")] = "is a file; name the folder"
    tiny_model(tmp_path / "no_weights")
    (tmp_path / "no_weights" / "model.safetensors").unlink()
    cases[str(tmp_path / "no_weights")] = "no weights"
    tiny_model(tmp_path / "unknown")
    config = json.loads((tmp_path / "unknown" / "config.json").read_text())
    (tmp_path / "unknown" / "config.json").write_text(json.dumps({**config, "model_type": "qwen99"}))
    cases[str(tmp_path / "unknown")] = "could not be loaded: .*qwen99"
    tiny_model(tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    cases[str(tmp_path / "cut")] = "could not be loaded"
    for name, message in cases.items():
        with pytest.raises(ModelError, match=message) as caught:
            load_model(name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_hub_name_that_can_not_be_had_is_one_sentence(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for load in (load_model, load_tokenizer):
        with pytest.raises(ModelError, match="no-one/no-such-model") as caught:
            load("no-one/no-such-model")
        assert "\n" not in str(caught.value)


def test_weights_that_are_missing_are_not_made_up(tmp_path):
    tiny_model(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    lost = next(name for name in weights if "layers.1" in name)
    del weights[lost]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=rf"1 weights .*{lost}.*random"):
        load_model(str(tmp_path))
    with pytest.raises(ModelError, match=lost):
        load_reward_model(str(tmp_path))


def test_a_folder_without_tokenizer_is_one_sentence(tmp_path):
    tiny_model(tmp_path)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / file).unlink()
    with pytest.raises(ModelError, match=r"no tokenizer \(tokenizer\.json or"):
        load_tokenizer(str(tmp_path))


def test_a_tokenizer_without_end_token_is_refused(tmp_path):
    tiny_model(tmp_path / "model")
    tokenizer = tiny_tokenizer(tmp_path / "tokenizer")
    tokenizer.eos_token = None
    shutil.rmtree(tmp_path / "tokenizer")
    tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(ModelError, match="no end token"):
        load_tokenizer(str(tmp_path / "model"))
