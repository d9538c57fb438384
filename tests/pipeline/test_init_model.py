"""How `r1 init` takes a model: how it is asked, what is known of one that is not here, what fits where."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from r1kit.data import hub
from r1kit.errors import ModelError, UserError
from r1kit.pipeline.starting.data import look_at_data
from r1kit.pipeline.starting.hardware import Hardware, look_at_hardware
from r1kit.pipeline.starting.lines import line, table
from r1kit.pipeline.starting.model import look_at_model
from r1kit.pipeline.starting.sizes import Sizes, first_sizes, fit
from r1kit.pipeline.starting.wishes import Wishes
from tests.pipeline.test_init_data import SUMS, write
from tests.tiny_models import CHAT_TEMPLATE, EOS, tiny_model

GPU = Hardware("gpu", 1, 24 * 2**30, False)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "tiny")


def with_template(model: Path, template: str | None) -> Path:
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        path = model / name
        if path.suffix == ".jinja" and path.is_file():
            path.unlink()
        elif path.is_file():
            config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            config.pop("chat_template", None)
            path.write_text(json.dumps(config | ({"chat_template": template} if template else {})))
    return model


def test_a_model_whose_end_token_ends_its_turns_is_a_finished_one(model: Path) -> None:
    found = look_at_model(str(model))
    assert "a chat model, chat template" in found.why
    assert (found.style, found.context) == ("zero", 1024)
    assert found.why_style == "a chat model that was not trained to reason: Table 1 tells it how"


def test_a_base_model_may_come_with_a_template_that_it_was_not_trained_on(model: Path) -> None:
    with_template(model, CHAT_TEMPLATE.replace(EOS, "<|pad|>"))  # as Qwen2.5's does
    found = look_at_model(str(model))
    assert "a base model, chat template" in found.why
    assert found.why_style == "a base model, which Table 1's template is for"


def test_a_model_without_a_template_is_a_base_model_and_no_chat(model: Path) -> None:
    with_template(model, None)
    found = look_at_model(str(model))
    assert (found.has_chat_template, found.style) == (False, "zero")
    with pytest.raises(ModelError, match=r"--style chat: .* has no chat template; take zero, or add one"):
        look_at_model(str(model), "chat")


def test_a_template_with_a_place_for_a_reasoning_is_asked_as_a_chat(model: Path) -> None:
    with_template(model, CHAT_TEMPLATE.replace("<|assistant|>{% endif %}", "<|assistant|><think>{% endif %}"))
    found = look_at_model(str(model))
    assert (found.style, found.why_style) == ("chat", "its chat template has a place for a reasoning")
    assert look_at_model(str(model), "zero").why_style == "as you said"


def test_of_a_model_on_a_hub_that_can_not_be_asked_its_name_says_what_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub, "unreachable", lambda: "there is no network")
    found = look_at_model("Someone/Thing-1.5B-Instruct")
    assert (found.num_weights, found.style) == (1_500_000_000, "zero")
    assert "about 1.5B weights by its name" in found.why
    assert found.unseen == "not looked at: there is no network"
    assert look_at_model("Someone/Thing-135M").num_weights == 135_000_000
    assert look_at_model("Someone/Thing").num_weights == 0


def test_a_slip_in_a_folders_name_is_no_name_on_the_hub(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "unreachable", lambda: "there is no network")
    monkeypatch.chdir(model.parent)
    with pytest.raises(ModelError, match=r"tinny: no such folder, .*; did you mean 'tiny'\?"):
        look_at_model("tinny")
    with pytest.raises(ModelError, match=r"did you mean 'config\.json'"):
        look_at_model("tiny/confg.json")


def sizes(model: Path, folder: Path, hardware: Hardware) -> Sizes:
    data = look_at_data(Wishes(data=str(write(folder / "sums.jsonl", SUMS))))
    # of the size of a real one, so that it is no toy
    found = replace(look_at_model(str(model)), num_weights=10**9)
    return first_sizes(found, data, hardware)


def test_completions_leave_room_for_the_longest_prompt(model: Path, tmp_path: Path) -> None:
    found = sizes(model, tmp_path, GPU)
    prompt = 1024 - found.max_new_tokens
    assert 100 < prompt < 600  # Table 1's template in tokens of about a byte
    assert sizes(model, tmp_path, look_at_hardware(Wishes(device="cpu"))).max_new_tokens == 256
    assert found.problems_per_step == 10  # half of the data's


def test_what_is_given_up_for_memory_comes_in_order(model: Path, tmp_path: Path) -> None:
    first = sizes(model, tmp_path, GPU)
    tried: list[Sizes] = []

    def needs(one: Sizes) -> int:
        tried.append(one)
        return 10**12

    last, needed = fit(first, GPU, needs)
    assert (last, needed) == (tried[-1], 10**12)
    assert [(s.micro_tokens, s.checkpointing, s.lora, s.max_rows) for s in tried] == [
        (16_000, False, False, 256),
        (4_000, False, False, 256),
        (4_000, True, False, 256),
        *((4_000, True, True, rows) for rows in (256, 128, 64, 32, 16, 8)),
    ]
    assert fit(first, GPU, lambda one: 10**9)[0] == first
    lora, _ = fit(first, GPU, lambda one: 10**9 if one.lora else 10**12)
    assert lora.rl_learning_rate == pytest.approx(10 * first.rl_learning_rate)
    sharded, _ = fit(first, replace(GPU, num=4), lambda one: 10**9 if one.shard else 10**12)
    assert (sharded.shard, sharded.lora) == (True, False)


def test_gpus_that_are_elsewhere_can_be_said() -> None:
    found = look_at_hardware(Wishes(gpus=8, gpu_memory=80))
    assert (found.device, found.num, found.num_bytes, found.dtype) == ("gpu", 8, 80 * 2**30, "bfloat16")
    assert str(found).startswith("8 GPUs (80 GB each)")


def test_lines_are_toml_as_people_write_it() -> None:
    assert line("steps", 20, "why") == "steps = 20                       # why"
    assert line("tokens", 16_000) == "tokens = 16_000"
    assert line("source", 'a "b"\n') == 'source = "a \\"b\\"\\n"'
    assert line("kind", "x", "two\nlines") == 'kind = "x"                       # two lines'
    assert table("optimizer", {"learning_rate": 3e-6, "warmup_steps": 5}) == (
        "optimizer = { learning_rate = 3e-6, warmup_steps = 5 }"
    )


def test_a_slip_in_a_guests_model_is_no_name_on_the_hub() -> None:
    with pytest.raises(UserError) as caught:
        look_at_model("tinyworld-smal")
    assert str(caught.value) == (
        "--model tinyworld-smal: tinyworld has no such model; did you mean `tinyworld-small`?"
    )
