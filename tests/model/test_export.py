"""Folders that r1kit writes, read by an older transformers: its names are there, and it computes the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from r1kit.model.export import write_older_names
from r1kit.model.loading import load_model, load_tokenizer, save_model
from r1kit.model.scorers import load_reward_model, load_scoring_tokenizer
from tests.architecture_checks import rows_of
from tests.architectures import BY_NAME

OLDER = ("transformers==4.57.6", "huggingface_hub<1.0", "tokenizers<0.23", "requests")
FAMILIES = (
    "Llama 3 (scaled rope)", "Qwen2.5", "Qwen3", "Qwen3-MoE", "Phi-3", "Phi-3 (longrope)", "Gemma 3",
    "Gemma 3 (multimodal)", "Mistral Small 3 (multimodal)", "GLM 4", "Granite", "SmolLM3", "OLMo 2", "OLMo 3",
    "gpt-oss",
)  # fmt: skip
# Logits, greedy tokens and the text of a chat prompt's tokens, of each folder.
READ = """
import json, sys, torch, transformers
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
for folder in sys.argv[1:]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    scores = "SequenceClassification" in json.load(open(folder + "/config.json"))["architectures"][0]
    auto = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
    model = auto.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.tensor(json.load(open(folder + "/../ids.json")))
    with torch.no_grad():
        found = {"logits": model(input_ids=ids).logits}
        if not scores:
            made = model.generate(ids, max_new_tokens=12, do_sample=False, eos_token_id=None)
            found["tokens"] = made[0, ids.shape[1]:].tolist()
    found["text"] = tokenizer.encode("What is 12 + 7?\\n<think>")
    found["special"] = [tokenizer.eos_token, tokenizer.pad_token]
    torch.save(found, folder + "/../" + transformers.__version__.split(".")[0] + ".pt")
"""


def rewritten(folder: Path, config: dict[str, object]) -> dict[str, object]:
    (folder / "config.json").write_text(json.dumps(config))
    write_older_names(folder, {"num_experts": "num_local_experts"})
    read: dict[str, object] = json.loads((folder / "config.json").read_text())
    return read


def test_rope_has_its_older_names_beside_the_new_table(tmp_path: Path) -> None:
    table = {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.5}
    config = rewritten(tmp_path, {"rope_parameters": table})
    assert (config["rope_theta"], config["partial_rotary_factor"], config["rope_scaling"]) == (1e6, 0.5, None)
    assert config["rope_parameters"] == table
    scaled = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0}
    config = rewritten(tmp_path, {"rope_parameters": scaled})
    assert (config["rope_theta"], config["rope_scaling"]) == (5e5, {"rope_type": "llama3", "factor": 8.0})
    by_layer = {
        "full_attention": {"rope_type": "default", "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    config = rewritten(tmp_path, {"model_type": "gemma3_text", "rope_parameters": by_layer})
    assert (config["rope_theta"], config["rope_local_base_freq"]) == (1e6, 1e4)
    # of other families with such a table 4.57 knows nothing, and 5.x would read one for all layers
    other = {"model_type": "other", "rope_parameters": by_layer}
    assert rewritten(tmp_path, other) == other
    assert rewritten(tmp_path, {"model_type": "gpt2"}) == {"model_type": "gpt2"}
    assert rewritten(tmp_path, {"num_local_experts": 4}) == {"num_experts": 4, "num_local_experts": 4}


def test_a_saved_tokenizer_names_a_class_that_both_versions_have(tmp_path: Path) -> None:
    source = str(BY_NAME["Qwen2.5"].write(tmp_path / "model"))
    save_model(load_model(source), load_tokenizer(source), tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] != "TokenizersBackend"
    assert not isinstance(config.get("extra_special_tokens"), list)
    assert load_tokenizer(str(tmp_path / "saved")).encode("<think>12") == load_tokenizer(source).encode(
        "<think>12"
    )


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with transformers 4.57, to be put before this environment's."""
    folder = tmp_path_factory.mktemp("older")
    install = [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder)]
    for packages in (("--no-deps", *OLDER[:3]), OLDER[3:]):
        done = subprocess.run([*install, *packages], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"transformers 4.57 can't be had here: {done.stderr.strip().splitlines()[-1:]}")
    return folder


@pytest.mark.slow
def test_transformers_4_57_computes_the_same_from_what_is_saved(tmp_path: Path, older: Path) -> None:
    folders = []
    for name in FAMILIES:
        work = tmp_path / name.replace(" ", "-")
        source = str(BY_NAME[name].write(work / "model"))
        save_model(load_model(source), load_tokenizer(source), work / "saved")
        folders.append(work / "saved")
    work = tmp_path / "scorer"
    source = str(BY_NAME["Qwen2.5"].write(work / "model"))
    save_model(load_reward_model(source), load_scoring_tokenizer(source), work / "saved")
    folders.append(work / "saved")
    for folder in folders:
        (folder.parent / "ids.json").write_text(json.dumps(rows_of(5, (40,))))
    for path in ("", str(older)):
        command = [sys.executable, "-c", READ, *map(str, folders)]
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
    for folder in folders:
        ours, theirs = torch.load(folder.parent / "5.pt"), torch.load(folder.parent / "4.pt")
        error = float((ours.pop("logits") - theirs.pop("logits")).abs().max())
        assert error < 1e-5, folder
        assert ours == theirs, folder
