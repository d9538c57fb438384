"""What a prompt opened of the response stands in its text, in both engines; every end token ends it."""

import pytest

from r1kit.sampling.engine import SampleRequest, SamplingParams, sample_all
from r1kit.sampling.local import FallbackEngine, LocalEngine
from r1kit.text.prompts import encode_prompt
from r1kit.types import Problem
from tests.tiny_models import CHAT_TEMPLATE, load_tiny, tiny_model

PROBLEM = Problem(id="1", kind="math", messages=({"role": "user", "content": "1+1?"},))


@pytest.mark.parametrize("engine_class", [LocalEngine, FallbackEngine])
@pytest.mark.parametrize(("tail", "opening"), [("<think>\n", "<think>\n"), ("<think></think>", ""), ("", "")])
def test_the_text_begins_with_what_the_prompt_opened(tmp_path, engine_class, tail, opening):
    model, tokenizer = load_tiny(tiny_model(tmp_path))
    tokenizer.chat_template = CHAT_TEMPLATE.replace(
        "<|assistant|>{% endif %}", f"<|assistant|>{tail}{{% endif %}}"
    )
    engine = engine_class(model, tokenizer)
    prompt = encode_prompt(PROBLEM, tokenizer, "chat")
    assert tokenizer.decode(prompt).endswith(f"<|assistant|>{tail}")
    params = SamplingParams(max_tokens=12)
    (completion,) = sample_all(engine, [SampleRequest(0, prompt, params, 5)])
    # the opening is no token of the completion
    assert len(completion.token_ids) == 12
    assert completion.text == opening + tokenizer.decode(completion.token_ids)
    assert "".join(engine.stream(prompt, params, 5)) == completion.text


@pytest.mark.parametrize("engine_class", [LocalEngine, FallbackEngine])
def test_each_of_several_ends_stops_and_is_no_text(tmp_path, engine_class):
    model, tokenizer = load_tiny(tiny_model(tmp_path))
    engine = engine_class(model, tokenizer)
    prompt = encode_prompt(PROBLEM, tokenizer, "chat")
    (free,) = sample_all(engine, [SampleRequest(0, prompt, SamplingParams(max_tokens=12), 5)])
    for place in (3, 6):
        end = free.token_ids[place]
        first = free.token_ids.index(end)
        params = SamplingParams(max_tokens=12, stop_token_ids=(tokenizer.eos_token_id, end))
        (stopped,) = sample_all(engine, [SampleRequest(1, prompt, params, 5)])
        assert stopped.token_ids == free.token_ids[: first + 1]
        assert stopped.finish_reason == "stop"
        assert stopped.text == tokenizer.decode(free.token_ids[:first])
