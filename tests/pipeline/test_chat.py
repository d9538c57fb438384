"""Streamed text is shown as it comes, the reasoning dimmed, tags never torn apart."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from r1kit.errors import UserError
from r1kit.model.loading import load_tokenizer
from r1kit.pipeline.chat import Speaker, chat, open_speaker
from r1kit.sampling.engine import SamplingParams
from r1kit.text.pieces import Piece, split_reasoning
from tests.pipeline.fakes import World, make_world
from tests.tiny_models import tiny_model


def merged(chunks: list[str]) -> list[Piece]:
    """The pieces, neighbours of one kind joined."""
    pieces: list[Piece] = []
    for piece in split_reasoning(iter(chunks)):
        if pieces and pieces[-1].dim == piece.dim:
            pieces[-1] = Piece(pieces[-1].text + piece.text, piece.dim)
        else:
            pieces.append(piece)
    return pieces


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_the_reasoning_is_dim_however_the_text_is_cut(size: int) -> None:
    text = "<think>\n1 < 2 <b>\n</think>\n\nThe answer is 3. <think"
    chunks = [text[i : i + size] for i in range(0, len(text), size)]
    assert merged(chunks) == [
        Piece("<think>\n1 < 2 <b>\n</think>", True),
        Piece("\n\nThe answer is 3. <think", False),
    ]


def test_zero_completions_show_their_answer_plainly() -> None:
    assert merged([" <think> a </think> <answer> 7 </answer>"]) == [
        Piece(" ", False),
        Piece("<think> a </think>", True),
        Piece(" <answer> 7 </answer>", False),
    ]


class Echo:
    """An engine that answers with the number of tokens it was asked with."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, ...]] = []

    def stream(self, prompt_token_ids: tuple[int, ...], params: SamplingParams, seed: int) -> Iterator[str]:
        self.asked.append(prompt_token_ids)
        yield from ("<think>", "hm", "</think>", "yes")


def test_a_conversation_keeps_its_turns_and_a_zero_model_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(str(tiny_model(tmp_path / "model")))
    for style in ("chat", "zero"):
        engine = Echo()
        speaker = Speaker("r1", engine, tokenizer, "chat" if style == "chat" else "zero", (0,))
        answers = iter(["hello", "and now?", ""])
        console = Console(file=io.StringIO())
        monkeypatch.setattr(console, "input", lambda *_, answers=answers: next(answers))
        chat(speaker, console, SamplingParams(max_tokens=8), seed=0)
        second = tokenizer.decode(engine.asked[1])
        assert len(engine.asked) == 2
        assert ("hello" in second and "yes" in second) == (style == "chat")
        assert console.file.getvalue() == "<think>hm</think>yes\n" * 2  # type: ignore[attr-defined]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "world")


def test_what_has_no_model_to_talk_to_is_said(world: World) -> None:
    with pytest.raises(UserError, match="stage `cold` is of kind cold_start; it has no model to talk to"):
        open_speaker(str(world.recipe), "cold")
    with pytest.raises(UserError, match=r"no stage `dve1` in .*; did you mean `dev1`\?"):
        open_speaker(str(world.recipe), "dve1")
    with pytest.raises(UserError, match="stage `dev1` has not been made yet; `r1 run"):
        open_speaker(str(world.recipe), "dev1")
    with pytest.raises(UserError, match=r"is not a run's folder: there is no run\.json in it"):
        open_speaker(str(world.folder), "dev1")


def test_a_run_folder_alone_is_enough(world: World, tmp_path: Path) -> None:
    world.run(stages=["zero"])
    tiny_model(world.folder / "base_model")  # the fake one can't speak
    speaker = open_speaker(str(world.out), "base")
    assert speaker.style == "zero"
    file = io.StringIO()
    chat(speaker, Console(file=file), SamplingParams(max_tokens=8), seed=0, prompt="What is 1 + 1?")
    again = io.StringIO()
    chat(speaker, Console(file=again), SamplingParams(max_tokens=8), seed=0, prompt="What is 1 + 1?")
    assert file.getvalue() == again.getvalue() != "\n"
