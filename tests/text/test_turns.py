"""Ends of turns, openings of thoughts and begin tokens, with templates in the manner of real ones."""

import json

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import GenerationConfig

from r1kit.errors import DataError, ModelError
from r1kit.evaluate.run import EvalConfig, evaluate_model
from r1kit.judges.chat_client import ChatRequest
from r1kit.judges.ledger import Ledger
from r1kit.judges.opening import EngineChat
from r1kit.model.loading import load_model, load_tokenizer, save_model, stop_token_ids
from r1kit.sampling.local import LocalEngine
from r1kit.sampling.logged import plan_samples, stage_sampler
from r1kit.sampling.over_ranks import EngineSpec
from r1kit.text.prompts import (
    check_begin,
    check_chat_template,
    encode_exchange,
    encode_prompt,
    has_closed_thought,
    prompt_opening,
)
from r1kit.text.template import format_chat, parse_response
from r1kit.text.turns import end_token_ids, ignored_end_ids, own_marks, response_end_id, turn_end_id
from r1kit.types import Problem
from tests.data_stages import math_problem, stage_context
from tests.tiny_models import tiny_model, tiny_tokenizer

PROBLEM = Problem(id="1", kind="math", messages=({"role": "user", "content": "1+1?"},))
GREETING = Problem(id="2", kind="general", messages=PROBLEM.messages, wants_reasoning=False)
RESPONSE = format_chat("One and one.", "2")

TURNS = "{% for m in messages %}"
# as R1's distilled models and Qwen3's thinking ones: the prompt opens the thought, past ones are dropped
OPENS = (
    TURNS + "<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
# as Qwen3's with thinking switched off; SmolLM3 decides by what the system turn says
SWITCHED = (
    TURNS + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if '/no_think' in messages[0].content %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
PLAIN = TURNS + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
# as Phi-3's: the end of a turn, and behind all turns the end token
TWO_ENDS = (
    TURNS + "<|{{ m.role }}|>\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}<|endoftext|>{% endif %}"
)
# as Llama 2's and Mistral's: an end behind answers only, with a space in front of it
BRACKETS = (
    "{{ bos_token }}" + TURNS + "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }} <|endoftext|>{% endif %}{% endfor %}"
)
# as gpt-oss': channels in the place of tags, and an end for the last turn alone
CHANNELS = (
    TURNS + "{% if m.role == 'assistant' %}<|start|>assistant"
    "{% if m.thinking %}<|channel|>analysis<|message|>{{ m.thinking }}<|end|><|start|>assistant{% endif %}"
    "<|channel|>final<|message|>{{ m.content }}{{ '<|return|>' if loop.last else '<|end|>' }}"
    "{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
NO_END = (
    TURNS + "{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"]


def made(folder, template, *, special=SPECIAL):
    tokenizer = tiny_tokenizer(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (OPENS, "<|im_end|>"),
        (SWITCHED, "<|im_end|>"),
        (PLAIN, "<|im_end|>"),
        (TWO_ENDS, "<|im_end|>"),
        (BRACKETS, "<|endoftext|>"),
        (CHANNELS, "<|return|>"),
        (NO_END, None),
        (None, None),
    ],
)
def test_a_turn_ends_as_the_template_ends_it(tmp_path, template, end):
    tokenizer = made(tmp_path, template)
    found = turn_end_id(tokenizer)
    assert (None if found is None else tokenizer.convert_ids_to_tokens(found)) == end
    eos = tokenizer.eos_token_id
    assert response_end_id(tokenizer, "chat") == (eos if end is None else found)
    assert response_end_id(tokenizer, "zero") == eos
    assert set(end_token_ids(tokenizer)) == {eos, eos if found is None else found}
    # configurations add theirs, one or several; a word is no end
    pad, word = tokenizer.pad_token_id, tokenizer.convert_tokens_to_ids("a")
    assert set(end_token_ids(tokenizer, None, [pad, word], pad)) == {*end_token_ids(tokenizer), pad}
    assert end_token_ids(tokenizer, [pad])[0] == eos
    assert ignored_end_ids(tokenizer, [pad, word], eos) == [word]


def test_every_end_that_the_files_name_stops_and_is_exported_with_the_sampling_defaults(tmp_path):
    source = tiny_model(tmp_path / "source")
    path = source / "generation_config.json"
    row = json.loads(path.read_text()) | {"eos_token_id": [1, 0], "temperature": 0.7, "top_p": 0.8}
    path.write_text(json.dumps(row))  # without `do_sample`, as some models have it
    model, tokenizer = load_model(str(source)), load_tokenizer(str(source))
    assert stop_token_ids(str(source), tokenizer) == (0, 1)
    path.unlink()
    assert stop_token_ids(str(source), tokenizer) == (0,)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "eos_token_id": [0, 1]}))
    assert stop_token_ids(str(source), tokenizer) == (0, 1)
    save_model(model, tokenizer, tmp_path / "saved")
    saved = GenerationConfig.from_pretrained(tmp_path / "saved")
    assert (saved.eos_token_id, saved.pad_token_id) == ([0, 1], 1)
    assert (saved.temperature, saved.top_p, saved.do_sample) == (0.7, 0.8, True)
    assert stop_token_ids(str(tmp_path / "saved"), tokenizer) == (0, 1)


def test_what_the_prompt_opens_is_not_written_twice(tmp_path):
    tokenizer = made(tmp_path, OPENS)
    check_chat_template(tokenizer)
    assert prompt_opening(encode_prompt(PROBLEM, tokenizer, "chat"), tokenizer) == "<think>\n"
    assert prompt_opening(encode_prompt(PROBLEM, tokenizer, "zero"), tokenizer) == ""
    prompt = "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    for response, whole in (
        (RESPONSE, RESPONSE),
        ("One and one.\n</think>\n\n2", RESPONSE),  # as such models' outputs are stored
        ("2", "<think>\n\n</think>\n\n2"),  # without a reasoning the thought is closed first
    ):
        prompt_ids, response_ids = encode_exchange(PROBLEM, response, tokenizer, "chat")
        assert tokenizer.decode(prompt_ids + response_ids) == f"{prompt}{whole}<|im_end|>"
        assert tokenizer.decode(prompt_ids).endswith("<think>\n")


def test_a_thought_may_be_closed_by_one_prompt_and_open_to_another(tmp_path):
    tokenizer = made(tmp_path, SWITCHED)
    silent = Problem(
        id="s", kind="math", messages=({"role": "system", "content": "/no_think"}, *PROBLEM.messages)
    )
    for problem, closed in ((PROBLEM, False), (silent, True)):
        ids = encode_prompt(problem, tokenizer, "chat")
        assert has_closed_thought(ids, tokenizer) is closed
        assert prompt_opening(ids, tokenizer) == ""


def test_channels_are_read_as_tags(tmp_path):
    marks = own_marks(made(tmp_path, CHANNELS))
    assert marks is not None
    thought = "<|channel|>analysis<|message|>One and one."
    answer = "<|channel|>final<|message|>2"
    read = parse_response(marks.to_tags(f"{thought}<|end|><|start|>assistant{answer}"), "chat")
    assert (read.reasoning, read.summary, read.well_formed) == ("One and one.", "2", True)
    cut = parse_response(marks.to_tags(thought), "chat")
    assert (cut.reasoning, cut.well_formed) == ("One and one.", False)
    assert marks.to_tags(answer) == "2"
    for text in ("2", RESPONSE, f"2 {answer}"):
        assert marks.to_tags(text) == text
    for template in (OPENS, SWITCHED, PLAIN, BRACKETS, NO_END):
        assert own_marks(made(tmp_path, template)) is None


@pytest.mark.parametrize(
    ("template", "turns", "message"),
    [
        (
            "{{ raise_exception('No system turns') }}",
            [("system", "a"), ("user", "b")],
            "system, user: No system",
        ),
        ("{{ messages[0].content[0].text.upper() }}", [("user", "b")], "no conversation of user: .*text"),
        ("{{ messages[1].content + 1 }}", [("user", "b")], "no conversation of user"),
    ],
)
def test_a_template_that_refuses_a_conversation_is_one_sentence(tmp_path, template, turns, message):
    tokenizer = made(tmp_path, template)
    problem = Problem(id="7", kind="math", messages=tuple({"role": r, "content": c} for r, c in turns))
    with pytest.raises(DataError, match=rf"problem '7': .*{message}") as caught:
        encode_prompt(problem, tokenizer, "chat")
    assert "\n" not in str(caught.value)


def _with_begin(folder, *, template, single, asked):
    tokenizer = made(folder, template)
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    begin = tokenizer.bos_token_id
    if single is not None:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=single, special_tokens=[("<s>", begin)]
        )
    tokenizer.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    if asked is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "add_bos_token": asked}))
    return tokenizer


@pytest.mark.parametrize(
    ("template", "single", "asked", "style", "fault"),
    [
        (BRACKETS, "<s> $A", None, "zero", None),
        (BRACKETS, "<s> $A", None, "chat", None),
        (BRACKETS, "<s> $A", True, "zero", None),
        # what transformers 5 makes of DeepSeek-V3's: asked for, and not written
        (BRACKETS, None, True, "zero", "encoded without it"),
        (BRACKETS, None, True, "chat", None),
        # a chat template that writes none is how its model was trained: doctor remarks on it
        (PLAIN, "<s> $A", None, "chat", None),
        (PLAIN, "<s> $A", None, "zero", None),
        ("{{ bos_token }}" + BRACKETS, "<s> $A", None, "chat", "with 2 begin tokens"),
        (BRACKETS, "<s> <s> $A", None, "zero", "with 2 begin tokens"),
        # as SmolLM2's and ChatML's: what opens every turn is the begin token too
        (TURNS + "{{ bos_token }}{{ m.content }}{% endfor %}{{ bos_token }}", None, None, "chat", None),
        # nobody asks for one
        (PLAIN, None, None, "zero", None),
        (PLAIN, None, False, "chat", None),
    ],
)
def test_a_prompt_begins_with_one_begin_token_where_it_is_asked_for(
    tmp_path, template, single, asked, style, fault
):
    tokenizer = _with_begin(tmp_path, template=template, single=single, asked=asked)
    if fault is None:
        check_begin(str(tmp_path), tokenizer, style)
    else:
        with pytest.raises(ModelError, match=fault):
            check_begin(str(tmp_path), tokenizer, style)


def test_whoever_samples_stops_at_every_end(tmp_path, monkeypatch):
    base = tiny_model(tmp_path / "base")
    row = json.loads((base / "generation_config.json").read_text())
    (base / "generation_config.json").write_text(json.dumps(row | {"eos_token_id": [1, 0]}))
    seen: list[tuple[int, ...]] = []
    submit = LocalEngine.submit

    def noted(engine, request):
        seen.append(request.params.stop_token_ids)
        submit(engine, request)

    monkeypatch.setattr(LocalEngine, "submit", noted)
    context = stage_context(tmp_path / "planned", base, {})
    with stage_sampler(context, "base", tmp_path / "log.jsonl", max_new_tokens=4, temperature=1.0) as sampler:
        sampler.sample(
            plan_samples([math_problem(1, "1+1?", "2")], sampler.encode("chat"), [0], label=["x"], seed=1)
        )
    evaluate_model(
        str(base),
        {"set": [math_problem(1, "1+1?", "2")]},
        EvalConfig(problems=["set"], samples=1, max_new_tokens=4),
        style="zero",
        seed=0,
        dtype="float32",
        device="cpu",
        max_rows=4,
        work_dir=tmp_path / "eval",
    )
    judge = EngineChat(EngineSpec(str(base), "float32", "cpu", 4), Ledger())
    judge.ask([ChatRequest(({"role": "user", "content": "Is it?"},), 1.0, 4)], lambda i, reply: None)
    judge.close()
    assert seen == [(0, 1)] * 3
