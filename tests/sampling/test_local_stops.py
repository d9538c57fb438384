import random
from pathlib import Path

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from r1kit.sampling.engine import SampleRequest, SamplingParams, sample_all
from r1kit.sampling.local import FallbackEngine, LocalEngine
from r1kit.sampling.local.stops import StopFinder, decode, num_undecided, stop_bounds
from r1kit.sampling.local.text import TextStream
from tests.bounds import same_numbers
from tests.tiny_models import load_tiny, tiny_model, tiny_tokenizer

Tiny = tuple[PreTrainedModel, PreTrainedTokenizerBase]
ENGINES = [LocalEngine, FallbackEngine]
PROMPT = (20, 30, 40, 50)
TEXT = "What is 12 + 7? 计算 12 加 7 </think> <answer> 19 </answer>\nUser: What is 计 5?"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return load_tiny(tiny_model(tmp_path_factory.mktemp("qwen3")))


def first_with(tokenizer: PreTrainedTokenizerBase, token_ids: tuple[int, ...], string: str) -> int:
    """How many of the tokens it takes until their text has the string in it."""
    nums = range(1, len(token_ids) + 1)
    return next(num for num in nums if string in tokenizer.decode(token_ids[:num]))


@pytest.mark.parametrize("engine_class", ENGINES)
@pytest.mark.numerical
def test_a_stop_string_ends_the_completion_with_the_token_that_completes_it(
    tiny: Tiny, engine_class: type[LocalEngine] | type[FallbackEngine]
) -> None:
    engine = engine_class(*tiny)
    free = sample_all(engine, [SampleRequest(0, PROMPT, SamplingParams(60), seed=3)])[0]
    strings = [free.text[i : i + 3] for i in range(0, len(free.text) - 3, 7)]
    strings = [string for string in strings if "\ufffd" not in string]
    assert len(strings) > 5
    requests = [
        SampleRequest(
            key,
            PROMPT,
            SamplingParams(60, stop_strings=("never", s), include_stop_str_in_output=bool(key % 2)),
            3,
        )
        for key, s in enumerate(strings)
    ]
    for key, (string, stopped) in enumerate(zip(strings, sample_all(engine, requests), strict=True)):
        num = first_with(tiny[1], free.token_ids, string)
        assert stopped.finish_reason == "stop"
        assert stopped.token_ids == free.token_ids[:num]
        assert stopped.sampler_logprobs == same_numbers(free.sampler_logprobs[:num], tiny[0])
        assert stopped.text == free.text[: free.text.index(string) + (3 if key % 2 else 0)]


@pytest.mark.parametrize("engine_class", ENGINES)
def test_a_stop_string_in_the_prompt_ends_nothing(
    tiny: Tiny, engine_class: type[LocalEngine] | type[FallbackEngine]
) -> None:
    prompt = tuple(tiny[1].encode("<answer> 19 </answer>"))
    params = SamplingParams(5, temperature=0.0, stop_strings=("9 </answer>",))
    completion = sample_all(engine_class(*tiny), [SampleRequest(0, prompt, params, seed=0)])[0]
    assert (completion.finish_reason, len(completion.token_ids)) == ("length", 5)


@pytest.mark.parametrize("engine_class", ENGINES)
def test_a_stream_shows_no_part_of_a_stop_string(
    tiny: Tiny, engine_class: type[LocalEngine] | type[FallbackEngine]
) -> None:
    engine = engine_class(*tiny)
    num_stopped = 0
    for seed in range(8):
        free = sample_all(engine, [SampleRequest(0, PROMPT, SamplingParams(40), seed)])[0]
        for start, with_string in ((5, False), (9, True), (16, False)):
            string = free.text[start : start + 5]
            params = SamplingParams(40, stop_strings=(string,), include_stop_str_in_output=with_string)
            completion = sample_all(engine, [SampleRequest(0, PROMPT, params, seed)])[0]
            num_stopped += completion.finish_reason == "stop"
            shown = ""
            for piece in engine.stream(PROMPT, params, seed):
                shown += piece
                assert completion.text.startswith(shown)
            assert shown == completion.text
    assert num_stopped > 15


def test_the_string_is_found_at_the_first_token_whose_text_has_it(tiny: Tiny) -> None:
    tokenizer = tiny[1]
    token_ids = tuple(tokenizer.encode(TEXT))
    rng = random.Random(0)
    slices = {tuple(sorted(rng.sample(range(len(TEXT) + 1), 2))) for _ in range(80)}
    strings = [TEXT[a:b] for a, b in slices if b - a < 25] + ["计", "</answer>", "\nUser:", " ", "算 12 加"]
    assert len(strings) > 40
    for string in strings:
        finder, params = StopFinder(tokenizer), SamplingParams(1, stop_strings=(string,))
        nums = range(1, len(token_ids) + 1)
        found = next(num for num in nums if finder.find(token_ids[:num], params) == "string")
        assert found == first_with(tokenizer, token_ids, string), string


def test_a_string_before_half_a_character_is_found_at_once(tiny: Tiny) -> None:
    token_ids = tiny[1].encode("ab算")
    assert tiny[1].decode(token_ids[:-1]) == "ab\ufffd"  # the case at hand
    params = SamplingParams(1, stop_strings=("b",))
    stream = TextStream(tiny[1], params)
    shown = [stream.push(token_id) for token_id in token_ids[:2]]
    assert ("".join(shown) + stream.finish()) == "a"
    assert StopFinder(tiny[1]).find(token_ids[:2], params) == "string"


def test_rows_without_stop_strings_are_not_decoded() -> None:
    finder = StopFinder(None)  # type: ignore[arg-type]
    assert finder.find([5, 7], SamplingParams(9, stop_token_ids=(7,))) == "token"
    assert finder.find([5, 7, 8], SamplingParams(9, stop_token_ids=(7,))) is None


@pytest.mark.parametrize(
    ("text", "strings", "bounds"),
    [
        ("zabq", ("zabq", "ab"), (1, 3)),  # "ab" is complete at 3, "zabq" at 4
        ("zab", ("ab", "zab"), (0, 3)),  # both at 3: the longer one, so that nothing of it is shown
        ("abab", ("ab",), (0, 2)),
        ("ab", ("abc",), None),
        ("ab", (), None),
    ],
)
def test_the_stop_string_that_is_complete_first_counts(
    text: str, strings: tuple[str, ...], bounds: tuple[int, int] | None
) -> None:
    assert stop_bounds(text, strings) == bounds


def test_what_may_become_a_stop_string_is_undecided() -> None:
    assert num_undecided("19 </ans", ("</answer>", "\nUser:")) == 5
    assert num_undecided("19 <<", ("</answer>", "\nUser:")) == 1
    assert num_undecided("aa", ("aab",)) == 2
    assert num_undecided("19", ("</answer>",)) == 0
    assert num_undecided("19", ()) == 0


def test_a_row_of_the_embedding_without_a_token_shows_as_a_replacement(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path)
    ids = tokenizer.encode("12 + 7", add_special_tokens=False)
    assert decode(tokenizer, ids) == "12 + 7"
    assert decode(tokenizer, [*ids, len(tokenizer) + 5, *ids]) == "12 + 7\ufffd12 + 7"
    assert decode(tokenizer, [len(tokenizer)]) == "\ufffd"
    think = tokenizer.convert_tokens_to_ids("<think>")  # beyond the base vocabulary, and a token
    assert decode(tokenizer, [think]) == "<think>"
