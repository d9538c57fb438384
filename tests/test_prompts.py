"""Prompts and responses as tokens, and templates that would spoil them."""

import pytest

from r1kit.errors import ModelError
from r1kit.prompts import check_chat_template, encode_prompt, encode_response
from r1kit.template import render_zero
from r1kit.types import Problem
from tests.tiny_models import tiny_tokenizer

PROBLEM = Problem(
    id="1",
    kind="general",
    messages=({"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}),
)


def test_the_zero_prompt_is_table_one_around_the_question(tmp_path):
    tokenizer = tiny_tokenizer(tmp_path)
    ids = encode_prompt(PROBLEM, tokenizer, "zero")
    assert tokenizer.decode(ids) == render_zero("1+1?")
    assert tokenizer.eos_token_id not in ids


def test_the_zero_prompt_begins_as_the_tokenizer_begins_texts_and_does_not_end(tmp_path):
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_tokenizer(tmp_path)
    plain = encode_prompt(PROBLEM, tokenizer, "zero")
    # a Llama-like begin token, and an end token that some tokenizers put after every text
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|pad|> $A <|endoftext|>", special_tokens=[("<|pad|>", 1), ("<|endoftext|>", 0)]
    )
    assert encode_prompt(PROBLEM, tokenizer, "zero") == (1, *plain)


def test_the_chat_prompt_holds_every_turn_and_opens_the_answer(tmp_path):
    tokenizer = tiny_tokenizer(tmp_path)
    text = tokenizer.decode(encode_prompt(PROBLEM, tokenizer, "chat"))
    assert text == "<|system|>Be brief.<|user|>1+1?<|assistant|>"


def test_a_response_ends_with_the_end_token_and_keeps_its_tags(tmp_path):
    tokenizer = tiny_tokenizer(tmp_path)
    ids = encode_response("<think>\n1</think>\n\n2", tokenizer)
    assert ids[-1] == tokenizer.eos_token_id
    assert ids.count(tokenizer.eos_token_id) == 1
    assert ids[0] == tokenizer.convert_tokens_to_ids("<think>")
    assert tokenizer.decode(ids[:-1]) == "<think>\n1</think>\n\n2"


def test_a_template_that_keeps_the_reasoning_passes(tmp_path):
    check_chat_template(tiny_tokenizer(tmp_path))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "no chat template"),
        # as DeepSeek-R1's own: past reasoning is cut from finished turns
        (
            "{% for m in messages %}{{ m['content'].split('</think>')[-1] }}{% endfor %}",
            "drops the reasoning of a finished turn",
        ),
        (
            "{% for m in messages %}{{ m['content'] }}{% endfor %}"
            "{% if add_generation_prompt %}<think>\n{% endif %}",
            "opens <think> in the prompt",
        ),
    ],
)
def test_templates_that_spoil_a_response_are_refused_with_the_fix(tmp_path, template, message):
    tokenizer = tiny_tokenizer(tmp_path)
    tokenizer.chat_template = template
    with pytest.raises(ModelError, match=rf"{message}.*tokenizer_config.json"):
        check_chat_template(tokenizer)
