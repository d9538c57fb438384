"""Prompts and responses as tokens, and templates that would spoil them."""

import pytest

from r1kit.errors import UserError
from r1kit.text.prompts import check_chat_template, encode_exchange, encode_prompt, encode_response
from r1kit.text.template import format_chat, render_zero
from r1kit.types import Problem
from tests.tiny_models import CHAT_TEMPLATE, tiny_tokenizer

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
        ("{% for m in messages %}<|{{ m['role'] }}|>{% endfor %}", "leaves out what the user says"),
        ("{{ raise_exception('Tools only') }}", "no conversation of user: Tools only"),
    ],
)
def test_templates_that_can_not_be_asked_are_refused_with_the_fix(tmp_path, template, message):
    tokenizer = tiny_tokenizer(tmp_path)
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=rf"{message}.*tokenizer_config.json"):
        check_chat_template(tokenizer)


def test_a_template_that_drops_the_reasoning_of_finished_turns_is_no_fault(tmp_path):
    tokenizer = tiny_tokenizer(tmp_path)
    # as DeepSeek-R1's own: what is trained is prompt and response, never a rendered turn
    tokenizer.chat_template = CHAT_TEMPLATE.replace("m['content']", "m['content'].split('</think>')[-1]")
    check_chat_template(tokenizer)
    response = format_chat("One and one.", "2")
    prompt_ids, response_ids = encode_exchange(PROBLEM, response, tokenizer, "chat")
    assert tokenizer.decode(prompt_ids + response_ids).endswith(f"<|assistant|>{response}<|endoftext|>")
