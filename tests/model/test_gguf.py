"""GGUF files as model folders. The file is written by the `gguf` package from a tiny Llama."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from r1kit.cli import app
from r1kit.errors import ModelError
from r1kit.model.gguf import import_gguf, imported
from r1kit.model.loading import load_model, load_tokenizer, resolve_model, stop_token_ids
from r1kit.pipeline.run import open_run
from tests.tiny_models import tiny_model

gguf = pytest.importorskip("gguf")
pytest.importorskip("accelerate")


def _interleaved(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """The order of rows that llama.cpp keeps queries and keys in: each head's two halves interleaved."""
    rows = torch.unflatten(weight, 0, (num_heads, 2, -1))
    return rows.transpose(1, 2).reshape(weight.shape)


def write_gguf(folder: Path, path: Path, *, quantised: bool = False, **changes: Any) -> Path:
    """The tiny Llama of a folder as a GGUF file; `changes` replace what the file says of the tokenizer."""
    model, tokenizer = load_model(str(folder)), load_tokenizer(str(folder))
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    added = {token["id"]: token for token in content["added_tokens"]}
    tokens = [str(tokenizer.convert_ids_to_tokens(index)) for index in range(len(tokenizer))]
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in content["model"]["merges"]]
    said = {
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.chat_template": tokenizer.chat_template,
        "tokenizer.ggml.eos_token_id": tokenizer.eos_token_id,
        **changes,
    }
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [
            3 if index in added and added[index]["special"] else 4 if index in added else 1
            for index in range(len(tokens))
        ]
    )
    writer.add_token_merges(merges)
    if said["tokenizer.ggml.eos_token_id"] is not None:
        writer.add_eos_token_id(said["tokenizer.ggml.eos_token_id"])
    if said["tokenizer.chat_template"] is not None:
        writer.add_chat_template(said["tokenizer.chat_template"])
    writer.add_tokenizer_pre(said["tokenizer.ggml.pre"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in model.named_parameters():
        if name.endswith("q_proj.weight"):
            weight = _interleaved(weight, config.num_attention_heads)
        elif name.endswith("k_proj.weight"):
            weight = _interleaved(weight, config.num_key_value_heads)
        values = weight.detach().numpy().astype(np.float32)
        to = names.get_name(name, try_suffixes=(".weight",))
        if quantised and values.ndim == 2 and values.shape[1] % 32 == 0:
            packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(to, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(to, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gguf") / "tiny"
    tiny_model(folder, "llama", hidden=64)
    return folder


def test_a_model_comes_back_as_it_was(tiny: Path, tmp_path: Path) -> None:
    made = import_gguf(write_gguf(tiny, tmp_path / "tiny.gguf"), tmp_path / "out")
    before, after = load_model(str(tiny)), load_model(str(made.folder))
    for (name, weight), (other, same) in zip(
        before.named_parameters(), after.named_parameters(), strict=True
    ):
        assert name == other
        assert torch.equal(weight, same), name
    old, new = load_tokenizer(str(tiny)), load_tokenizer(str(made.folder))
    for text in ("What is 12 + 7?", "计算 12 加 7", "a\n\n  b <think>x</think>"):
        assert new.encode(text) == old.encode(text)
    assert new.chat_template == old.chat_template
    assert stop_token_ids(str(made.folder), new) == stop_token_ids(str(tiny), old)
    assert dict(made.found)["weights"].endswith("of llama, from 20 F32, as float32")
    record = json.loads((made.folder / "import.json").read_text())
    assert (record["source"], record["general.name"]) == ("tiny.gguf", "tiny")


def test_quantised_weights_are_unpacked_to_what_they_stand_for(tiny: Path, tmp_path: Path) -> None:
    source = write_gguf(tiny, tmp_path / "tiny.gguf", quantised=True)
    before, after = load_model(str(tiny)), load_model(str(import_gguf(source, tmp_path / "out").folder))
    weight, unpacked = before.model.layers[0].mlp.up_proj.weight, after.model.layers[0].mlp.up_proj.weight
    # Q8_0: blocks of 32 share a scale of largest / 127, kept in half precision (2**-11 of it)
    largest = weight.abs().view(-1, 32).amax(-1)
    bound = largest / 127 / 2 + largest * 2**-11
    assert ((weight - unpacked).abs().view(-1, 32) <= bound[:, None] * 1.001).all()
    assert not torch.equal(weight, unpacked)


def test_a_recipe_takes_a_gguf_file_as_its_base(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "recipes").mkdir()
    write_gguf(tiny, tmp_path / "tiny.gguf")
    recipe = tmp_path / "recipes" / "r.toml"
    recipe.write_text(
        '[run]\nname = "r"\noutput_dir = "out"\n[model]\nbase = "../tiny.gguf"\n'
        '[stages.a]\nkind = "sft"\nmodel = "base"\ndata = "a.jsonl"\n'
    )
    (tmp_path / "recipes" / "a.jsonl").touch()
    folder = Path(open_run(recipe).model_path("base"))
    assert folder.parent == tmp_path / "cache" / "r1kit" / "models"
    assert folder.name.startswith("tiny-")
    record = folder / "import.json"
    first = record.stat().st_mtime_ns
    assert resolve_model(str(tmp_path / "tiny.gguf")) == str(folder)
    assert record.stat().st_mtime_ns == first  # made once
    assert torch.equal(
        load_model(str(tmp_path / "tiny.gguf")).lm_head.weight, load_model(str(tiny)).lm_head.weight
    )
    # a file that has changed is another model
    write_gguf(tiny, tmp_path / "tiny.gguf", quantised=True)
    assert imported(tmp_path / "tiny.gguf") != folder


def test_faults_are_sentences(tiny: Path, tmp_path: Path) -> None:
    whole = write_gguf(tiny, tmp_path / "whole.gguf").read_bytes()
    cases: dict[str, tuple[bytes | None, str]] = {
        "none": (None, "no such file"),
        "text": (b"not a model", "it does not begin with `GGUF`"),
        "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        "cut": (whole[: len(whole) // 3], "damaged or not complete"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / f"{name}.gguf"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ModelError, match=message):
            import_gguf(path, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    source = write_gguf(tiny, tmp_path / "end.gguf", **{"tokenizer.ggml.eos_token_id": None})
    with pytest.raises(ModelError, match=r"names no end token; give the model's tokenizer by --tokenizer"):
        import_gguf(source, tmp_path / "out")
    made = import_gguf(source, tmp_path / "out", tokenizer=str(tiny))
    assert dict(made.found)["tokenizer"].startswith(f"of {tiny}, ")
    with pytest.raises(ModelError, match=r"out exists already; name a new folder"):
        import_gguf(source, tmp_path / "out", tokenizer=str(tiny))


def test_what_transformers_may_split_otherwise_is_said(tiny: Path, tmp_path: Path) -> None:
    changes = {"tokenizer.ggml.pre": "of-tomorrow", "tokenizer.chat_template": None}
    made = import_gguf(write_gguf(tiny, tmp_path / "tiny.gguf", **changes), tmp_path / "out")
    found = dict(made.found)
    assert found["warning"].startswith("transformers does not know how 'of-tomorrow' splits text")
    assert found["chat template"].startswith("none in the file")


def test_the_command_says_what_it_checked(tiny: Path, tmp_path: Path) -> None:
    source = write_gguf(tiny, tmp_path / "tiny.gguf")
    result = CliRunner().invoke(app, ["import", str(source), str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "tokenizer: 384 tokens, as in the file; its end token is '<|endoftext|>'" in result.output
    assert f"Written to {tmp_path / 'out'}; name it as `base` in a recipe." in result.output
