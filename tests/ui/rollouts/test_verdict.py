"""What a completion's page says about it: the answer that was taken, the format, texts, tokens."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models

from r1kit.data.guests import find_checkpoint
from r1kit.pipeline.fingerprints import Fingerprints
from r1kit.ui.folders import Run
from r1kit.ui.rollouts.shown import cut, excerpt
from r1kit.ui.rollouts.tokens import find_tokenizer, shade_tokens, token_texts
from r1kit.ui.rollouts.verdict import read_verdict
from r1kit.ui.text import as_float, visible
from tests.ui.rollouts.made_log import make_row, write_stage


def test_the_answer_that_was_taken_and_why_it_scored_so() -> None:
    row = make_row(1, 0, 0, "<think>\nSix?\n</think>\n\nThe answer is \\boxed{7}.", accuracy=0.0)
    row["reward"]["weights"]["accuracy"] = 2.0
    verdict = read_verdict(row, "chat")
    assert (verdict.reasoning, verdict.summary) == ("Six?", "The answer is \\boxed{7}.")
    assert (verdict.answer, verdict.truth, verdict.lenient, verdict.is_well_formed) == ("7", "6", None, True)
    accuracy, form = verdict.parts
    assert (accuracy.value, accuracy.weight, accuracy.adds) == (0.0, 2.0, 0.0)
    assert accuracy.why == "Took '7' as the answer, which does not count as right: the ground truth is '6'."
    assert (form.why, form.adds) == ("Exactly the format.", 1.0)


def test_a_broken_format_says_what_is_wrong_and_what_would_have_been_the_answer() -> None:
    row = make_row(
        text="<think>\nSix. So it is 6.", parts={"accuracy": 0.0, "format": 0.0}, finish_reason="length"
    )
    verdict = read_verdict(row, "chat")
    assert (verdict.answer, verdict.lenient, verdict.is_well_formed) == (None, "6", False)
    assert verdict.format_fault == (
        "</think> is missing; it was cut off at its last allowed token, before the model ended it."
    )
    assert verdict.parts[0].why == "The completion is malformed, so it gives no answer."


@pytest.mark.parametrize(
    "change",
    [
        {"problem": {"id": "x"}},
        {"problem": None},
        {"problem": {"id": "x", "kind": "choice", "messages": [{"role": "user", "content": "?"}]}},
        {"reward": None},
        {"completion": {"text": "<think>" * 5000}},
        {"completion": None},
    ],
)
def test_no_row_is_too_odd_for_a_verdict(change: dict[str, Any]) -> None:
    verdict = read_verdict(make_row() | change, "chat")
    assert verdict.is_well_formed == (verdict.format_fault is None)


def test_parts_that_are_missing_or_only_logged() -> None:
    row = make_row(parts={"accuracy": None, "language": 0.5, "my/own": 2.0})
    row["reward"]["weights"]["language"] = 0.0
    accuracy, language, own = read_verdict(row, "chat").parts
    assert (accuracy.value, accuracy.adds) == (None, None)
    assert accuracy.why == "Missing: what scores it was not available."
    assert language.why == "50% of the reasoning's words are in en. Weight 0: only logged."
    assert (own.name, own.why) == ("my/own", "")


def test_text_for_a_page() -> None:
    assert visible("a\x1b[31m\x00\r\n\tb\u202ec\ud800\x9b") == "a␛[31m␀\n\tb⟨U+202E⟩c\ufffd⟨U+009B⟩"
    assert visible("再 é 𝔘 <b>&amp;") == "再 é 𝔘 <b>&amp;"
    assert visible("a\rb\u200b\u2066\ufeff\x85") == "a␍b⟨U+200B⟩⟨U+2066⟩⟨U+FEFF⟩⟨U+0085⟩"
    joined = "\U0001f469\u200d\U0001f52c"  # a joiner within an emoji
    assert visible(joined) == joined
    assert cut("abcdef", 4) == ("abcd", 2)
    assert excerpt("one\n\n two", (4, 9)) == ("one ", " two", "")


@pytest.mark.parametrize(
    ("value", "number"),
    [(3, 3.0), (0.5, 0.5), (True, None), ("3", None), (10**400, None), (float("nan"), None), (-1e999, None)],
)
def test_numbers_that_no_float_holds_are_none(value: object, number: float | None) -> None:
    assert as_float(value) == number


def word_tokenizer(path: Path, words: list[str]) -> None:
    """A tokenizer whose n-th token is the n-th word."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[0]))
    tokenizer.decoder = decoders.Fuse()
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))


def test_shades_are_numbers_that_follow_from_logprobs_and_advantage(tmp_path: Path) -> None:
    write_stage(tmp_path, "zero")
    word_tokenizer(tmp_path / "zero" / "model" / "tokenizer.json", ["<unk>", "<b>", " two", "\x1b"])
    run = Run("run", tmp_path)
    shaded = shade_tokens(run, "zero", [1, 2, 3, 99], [0.0, -0.6, -100.0, -3.0], 1.4, text="<b> two")
    assert [piece.text for piece in shaded.pieces] == ["<b>", " two", "␛", ""]
    # surprise: 0.6 nats a level, 9 at most; push: 6 x advantage x (1 - p), p of 1, 0.55, 0, 0.05
    assert [piece.surprise for piece in shaded.pieces] == [0, 1, 9, 5]
    assert [piece.push for piece in shaded.pieces] == [0, 4, 8, 8]
    assert (shaded.direction, shaded.advantage_level) == ("up", 4)
    assert (shaded.as_numbers, shaded.next, shaded.note) == (False, None, None)
    down = shade_tokens(run, "zero", [1, 2], [], -0.1, text="", first=1)
    assert (down.direction, down.first, down.total, len(down.pieces)) == ("down", 1, 2, 1)
    assert shade_tokens(run, "zero", [1], [-1.0], None, text="").direction == "none"


def test_another_tokenizers_text_is_noticed(tmp_path: Path) -> None:
    write_stage(tmp_path, "zero")
    word_tokenizer(tmp_path / "zero" / "model" / "tokenizer.json", ["<unk>", "one", "two"])
    shaded = shade_tokens(Run("run", tmp_path), "zero", [1, 2], [0.0, 0.0], 0.0, text="three four")
    assert shaded.note is not None
    assert "it may not be the stage's" in shaded.note


def test_where_the_tokenizer_is_looked_for(tmp_path: Path) -> None:
    run = Run("run", tmp_path)
    write_stage(tmp_path / ".work", "dev2", model="dev1")
    tokenizer, note = find_tokenizer(run, "dev2")
    assert tokenizer is None
    assert note is not None
    assert note.endswith("So the tokens are shown as numbers.")
    shaded = shade_tokens(run, "dev2", [7, 8], [-0.1, -0.2], 0.5, text="x")
    assert ([piece.text for piece in shaded.pieces], shaded.as_numbers) == (["7", "8"], True)
    # the stage that it started from, even if it started from another one itself
    write_stage(tmp_path, "dev1", model="base")
    path = tmp_path / "dev1" / "model" / "tokenizer.json"
    word_tokenizer(path, ["a", "b"])
    tokenizer, note = find_tokenizer(run, "dev2")
    assert tokenizer is not None
    assert note == f"The tokens' texts are by {path}, the nearest tokenizer that is there."
    path.write_text("{")
    tokenizer, note = find_tokenizer(run, "dev2")
    assert tokenizer is None
    assert f"{path} can't be read" in str(note)


def test_the_base_models_tokenizer_is_found_by_the_recipe(tmp_path: Path) -> None:
    write_stage(tmp_path / "out" / ".work", "zero", model="base")
    word_tokenizer(tmp_path / "recipes" / "base" / "tokenizer.json", ["a", "b"])
    recipe = tmp_path / "recipes" / "r.toml"
    recipe.write_text('[model]\nbase = "base"\n')
    (tmp_path / "out" / "run.json").write_text(json.dumps({"recipe": str(recipe)}))
    assert find_tokenizer(Run("run", tmp_path / "out"), "zero")[0] is not None
    recipe.write_text('[model]\nbase = "tinyworld"\n')  # a guest's
    assert find_tokenizer(Run("run", tmp_path / "out"), "zero")[0] is not None
    shutil.rmtree(tmp_path / "recipes")
    assert find_tokenizer(Run("run", tmp_path / "out"), "zero")[0] is None


def test_tokens_that_share_a_character_are_one_text() -> None:
    from r1kit.data.guests import find_checkpoint

    folder = find_checkpoint("tinyworld")
    assert folder is not None
    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    text = "<think> 龘 so 1+2 </think>"
    ids = tokenizer.encode(text).ids
    texts = token_texts(tokenizer, ids)
    assert len(texts) == len(ids)
    assert "".join(texts).strip() == text
    assert texts.count("") == 2  # the character's three bytes are three tokens, and the last has it


def test_in_a_copied_run_the_base_models_tokenizer_is_found_by_its_content(tmp_path: Path) -> None:
    small = find_checkpoint("tinyworld-small")
    assert small is not None
    fingerprint = Fingerprints(tmp_path / "none.json", writes=False).model(str(small))
    write_stage(tmp_path, "zero")
    manifest = {"kind": "grpo", "key": {"config": {}, "inputs": {"model base": fingerprint}}}
    (tmp_path / "zero" / "manifest.json").write_text(json.dumps(manifest))
    tokenizer, note = find_tokenizer(Run("run", tmp_path), "zero")
    assert tokenizer is not None
    assert note is not None
    assert str(small / "tokenizer.json") in note
