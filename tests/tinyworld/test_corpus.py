import itertools
import random
import re

import pytest

from r1kit.text.template import TAGS, parse_response
from r1kit.tinyworld import corpus
from r1kit.tinyworld.build import token_rows
from r1kit.tinyworld.problems import DEFAULT_FAMILIES, split_of
from r1kit.tinyworld.tokenizer import ASSISTANT, END, USER, VOCAB_SIZE, train_tokenizer


@pytest.fixture(scope="module")
def texts():
    return list(itertools.islice(corpus.documents(seed=0), 1500))


@pytest.fixture(scope="module")
def tokenizer(texts):
    return train_tokenizer(texts)


def test_document_i_depends_on_seed_and_i_alone(texts):
    assert list(itertools.islice(corpus.documents(seed=0, start=700), 3)) == texts[700:703]
    assert list(itertools.islice(corpus.documents(seed=1), 3)) != texts[:3]


def test_only_the_code_corpus_has_programs_and_all_of_the_pretraining_split(texts):
    assert not any("def f(" in text for text in texts)
    made = list(itertools.islice(corpus.documents(seed=0, families=corpus.CODE_FAMILIES), 1500))
    with_programs = [text for text in made if "def f(" in text]
    assert 0.2 < len(with_programs) / len(made) < 0.4
    assert any(TAGS[0] in text for text in with_programs)
    assert any(USER in text for text in with_programs)
    # guesses and slips are wrong and may hit any split; drills are careful
    drills = [text for text in with_programs if text.startswith(("Write", "In Python", "用Python", "写出"))]
    programs = [
        found for text in drills for found in re.findall(r"def f\(x\): return (\d+)\*x\+(\d+)$", text, re.M)
    ]
    assert len(programs) > 50
    seen = [split_of(f"linear:{factor}:{constant}") == "pretraining" for factor, constant in programs]
    assert sum(seen) / len(seen) > 0.97


def test_guesses_dominate_the_tagged_documents_and_most_but_not_all_are_well_formed():
    made = [corpus.tagged_document(random.Random(i), DEFAULT_FAMILIES) for i in range(1000)]
    guesses = sum("I think it is" in text or "我想是" in text for text in made) / len(made)
    assert 0.45 < guesses < 0.65
    completions = [text.split("Assistant:", 1)[1] for text in made]
    well_formed = sum(parse_response(text, "zero").well_formed for text in completions) / len(made)
    assert 0.5 < well_formed < 0.75


def test_the_tokenizer_gives_back_any_text(tokenizer, texts):
    for text in [*texts[:50], "naïve 🙂 \t\n  <think>"]:
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert len(tokenizer) == VOCAB_SIZE


def test_digits_tags_and_markers_are_single_tokens(tokenizer):
    assert len(tokenizer("2026").input_ids) == 4
    for tag in ("<think>", "</think>", "<answer>", "</answer>", "<|user|>", "<|assistant|>", "<|endoftext|>"):
        assert len(tokenizer(tag).input_ids) == 1
    # tags are not special tokens: decoding for a reader keeps them
    assert (
        tokenizer.decode(tokenizer("<think> a </think>").input_ids, skip_special_tokens=True)
        == "<think> a </think>"
    )


def test_the_chat_template_keeps_the_reasoning_of_earlier_turns(tokenizer):
    turns = [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "<think>\n1+1=2\n</think>\n\n2"},
        {"role": "user", "content": "And 2+2?"},
    ]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert rendered == (
        "<|user|>1+1?<|assistant|><think>\n1+1=2\n</think>\n\n2<|endoftext|><|user|>And 2+2?<|assistant|>"
    )


def test_chats_are_in_the_template_of_the_tokenizer_and_have_no_tags(tokenizer):
    for i in range(50):
        text = corpus.chat_document(random.Random(i), DEFAULT_FAMILIES)
        turns = [turn.split(ASSISTANT) for turn in text.removeprefix(USER).split(END + USER)]
        messages = [
            {"role": role, "content": content}
            for turn in turns
            for role, content in zip(("user", "assistant"), turn, strict=True)
        ]
        assert tokenizer.apply_chat_template(messages, tokenize=False) == text + END
        assert not any(tag in text for tag in TAGS)


def test_every_row_begins_where_a_document_begins_and_documents_end_with_the_end_token(tokenizer, texts):
    rows = token_rows(tokenizer, iter(texts), num_rows=20, row_tokens=128)
    assert rows.shape == (20, 128)
    end, at = tokenizer.eos_token_id, 0
    for row in rows:
        first = tokenizer.decode(row[: list(row).index(end)] if end in row else row)
        assert texts[at].startswith(first.rstrip("\ufffd"))  # a cut may fall inside a character
        taken = 0
        while taken < 128:  # the documents that went into this row
            taken += len(tokenizer(texts[at]).input_ids) + 1
            at += 1
