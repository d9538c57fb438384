"""`--set` puts typed values where they are named, and says what is wrong with those it can't."""

from typing import Any

import pytest

from r1kit.errors import RecipeError
from r1kit.pipeline.settings import apply_setting, parse_setting


def applied(*texts: str) -> dict[str, Any]:
    table: dict[str, Any] = {
        "run": {"name": "x"},
        "stages": {"zero": {"steps": 90, "mixture": [{"from_step": 0}, {"from_step": 5}], "judge": "a"}},
    }
    for text in texts:
        apply_setting(table, parse_setting(text))
    return table


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("20", 20),
        ("1e-6", 1e-6),
        ("1_000", 1000),
        ("inf", float("inf")),
        ("true", True),
        ("True", "True"),  # no TOML: text, which pydantic reads as it reads text in the file
        ('"20"', "20"),
        ("'a=b'", "a=b"),
        ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B"),
        ("../data/x.jsonl", "../data/x.jsonl"),
        (" spaced out ", "spaced out"),
        ("[1, 2]", [1, 2]),
        ("{ a = 1, b = 'x' }", {"a": 1, "b": "x"}),
        ("[{ from_step = 0, shares = { a = 1.0 } }]", [{"from_step": 0, "shares": {"a": 1.0}}]),
    ],
)
def test_a_value_is_toml_and_bare_words_are_text(text: str, value: object) -> None:
    found = parse_setting(f"stages.zero.x={text}").value
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("run.seed=1", ("run", "seed")),
        (" run . seed =1", ("run", "seed")),
        ('stages.zero.rewards."my.py:f"=1', ("stages", "zero", "rewards", "my.py:f")),
        ("stages.zero.mixture[1].from_step=1", ("stages", "zero", "mixture", 1, "from_step")),
        ("a.b[0][2]=1", ("a", "b", 0, 2)),
        ('"a=b".c=1', ("a=b", "c")),
    ],
)
def test_keys_are_those_of_toml_and_numbers_of_entries(text: str, keys: tuple[object, ...]) -> None:
    setting = parse_setting(text)
    assert setting.keys == keys
    assert setting.value == 1


def test_a_value_goes_where_it_is_named_and_the_last_one_wins() -> None:
    table = applied(
        "stages.zero.steps=20",
        "stages.zero.steps=21",
        "stages.zero.mixture[1].from_step=7",
        "stages.zero.optimizer.learning_rate=1e-5",
        "model.base=tinyworld",
        "problems.extra={ source = 'gsm8k' }",
    )
    assert table["stages"]["zero"]["steps"] == 21
    assert table["stages"]["zero"]["mixture"] == [{"from_step": 0}, {"from_step": 7}]
    assert table["stages"]["zero"]["optimizer"] == {"learning_rate": 1e-5}
    assert table["model"] == {"base": "tinyworld"}
    assert table["problems"] == {"extra": {"source": "gsm8k"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "stages.zero.steps",
            "--set stages.zero.steps: there is no value; write `--set stages.zero.steps=...`.",
        ),
        ("=3", "--set =3: '' is not the name of a value; join tables and key by dots"),
        ("a..b=3", "'a..b' is not the name of a value"),
        ("a b=3", "'a b' is not the name of a value"),
        ("[0].a=3", "'[0].a' is not the name of a value"),
        ("run.seed=[1, 2", "--set run.seed=[1, 2: '[1, 2' is not a TOML value; numbers, true"),
        ("run.seed=", "'' is not a TOML value"),
        ("run.seed=1, 2", "'1, 2' is not a TOML value"),
        ("run.seed=1 # one", "is not a TOML value"),
        ("run.seed=1]\nb = [2", "is not a TOML value"),
        (
            "stages.zreo.steps=3",
            "--set stages.zreo.steps=3: no `stages.zreo` in the recipe; did you mean `zero`?",
        ),
        ("stages.zero.steps.x=3", "`stages.zero.steps` is 90, not a table; set it as a whole."),
        ("stages.zero.judge.model=b", "`stages.zero.judge` is 'a', not a table; set it as a whole."),
        ("stages.zero.mixture.from_step=3", "is a list; name an entry, such as `stages.zero.mixture[0]`."),
        ("stages.zero.mixture[2].from_step=3", "`stages.zero.mixture` has 2 entries, counted from 0."),
        ("stages.zero.steps[0]=3", "`stages.zero.steps` is not a list."),
    ],
)
def test_what_can_not_be_set_is_one_sentence(text: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        applied(text)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"--set {text}: ")
