"""Errors of a recipe name file, line, field, value and the fix."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, model_validator

from r1kit.config import Config, Source, find_line, nearest, read_toml, validate
from r1kit.errors import RecipeError


class Point(Config):
    from_step: int
    shares: dict[str, float]


class Server(Config):
    url: str
    port: int = 80


class Grow(Config):
    kind: Literal["grow"] = "grow"
    steps: int = Field(3, gt=0)
    data: str | list[str] = "x"
    judge: str | Server = "none"
    mixture: list[Point] = Field(default_factory=list)
    mode: Literal["mask", "penalise"] = "mask"

    @model_validator(mode="after")
    def _lucky(self) -> "Grow":
        if self.steps == 13:
            raise ValueError("13 steps bring bad luck; take 14")
        return self


class Cut(Config):
    kind: Literal["cut"] = "cut"
    epochs: int


class Paste(Config):
    kind: Literal["paste"] = "paste"
    style: Literal["zero", "chat"]
    server: Server


class Whole(Config):
    name: str = "x"
    stages: dict[str, Annotated[Grow | Cut | Paste, Field(discriminator="kind")]] = Field(
        default_factory=dict
    )


def fault_of(tmp_path: Path, text: str) -> str:
    path = tmp_path / "r.toml"
    path.write_text(text, encoding="utf-8")
    table, source = read_toml(path)
    with pytest.raises(RecipeError) as caught:
        validate(Whole, table, source)
    return str(caught.value).replace(str(path), "r.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nmae = 'x'", "r.toml:1: unknown key `nmae`; did you mean `name`?"),
        ("zzz = 1", "r.toml:1: unknown key `zzz`; known here: name, stages."),
        (
            "[stages.a]\nkind = 'grow'\nstps = 4",
            "r.toml:3: unknown key `stages.a.stps`; did you mean `steps`?",
        ),
        # the tag of the union is also the name of the stage, and of a key that is not known
        (
            "[stages.grow]\nkind = 'grow'\ngrow = 4",
            "r.toml:3: unknown key `stages.grow.grow`; known here: kind, steps, data, judge, mixture, mode.",
        ),
        ("[stages.a]\nkind = 'cut'", "r.toml:1: `stages.a.epochs` is missing; add it."),
        (
            "[stages.a]\nkind = 'paste'",
            "r.toml:1: `stages.a.style` is missing; add it: 'zero' or 'chat'.\n"
            "r.toml:1: `stages.a.server` is missing; add it: a table [stages.a.server] with `url`.",
        ),
        ("[stages.a]\nsteps = 4", "r.toml:1: `stages.a` needs a `kind`."),
        (
            "[stages.a]\nkind = 'gorw'",
            "r.toml:2: `stages.a.kind` = 'gorw': there is no such kind; did you mean `grow`?",
        ),
        ("[stages.a]\nkind = 'grow'\nsteps = 0", "r.toml:3: `stages.a.steps` = 0: should be greater than 0."),
        ("[stages.a]\nkind = 'grow'\nsteps = 13", "r.toml:1: `stages.a`: 13 steps bring bad luck; take 14."),
        (
            "[stages.a]\nkind = 'grow'\nmode = 'maks'",
            "r.toml:3: `stages.a.mode` = 'maks': should be 'mask' or 'penalise' (did you mean `mask`?).",
        ),
        # no member of a union fits: one line
        (
            "[stages.a]\nkind = 'grow'\ndata = 3",
            "r.toml:3: `stages.a.data` = 3: should be a valid string, or should be a valid list.",
        ),
        # a table in the place of a table or text: what is wrong in it
        (
            "[stages.a]\nkind = 'grow'\njudge = { urll = 'x' }",
            "r.toml:3: `stages.a.judge.url` is missing; add it.\n"
            "r.toml:3: unknown key `stages.a.judge.urll`; did you mean `url`?",
        ),
        # tables in lists, by index and by their own line
        (
            "[stages.a]\nkind = 'grow'\n[[stages.a.mixture]]\nfrom_step = 0\nshares = { x = 1 }\n"
            "[[stages.a.mixture]]\nfrom_step = 1\nshares = { x = 'much' }",
            "r.toml:8: `stages.a.mixture[1].shares.x` = 'much': should be a valid number, unable to "
            "parse string as a "
            "number.",
        ),
        (
            "[stages.a]\nkind = 'grow'\nmixture = [{ from_step = 0, shares = {} }, { from_stp = 1, "
            "shares = {} }]",
            "r.toml:3: `stages.a.mixture[1].from_step` is missing; add it.\n"
            "r.toml:3: unknown key `stages.a.mixture[1].from_stp`; did you mean `from_step`?",
        ),
        # several faults come in the order of the file
        (
            "[stages.b]\nkind = 'cut'\nepochs = 'x'\n[stages.a]\nkind = 'grow'\nsteps = -1",
            "r.toml:3: `stages.b.epochs` = 'x': should be a valid integer, unable to parse string as "
            "an integer.\n"
            "r.toml:6: `stages.a.steps` = -1: should be greater than 0.",
        ),
    ],
)
def test_a_fault_is_one_line_with_its_place_and_the_fix(tmp_path: Path, text: str, message: str) -> None:
    assert fault_of(tmp_path, text) == message


def test_a_file_that_is_not_toml_not_there_or_not_text_is_one_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("a = 1\nb = = 2\n", encoding="utf-8")
    with pytest.raises(
        RecipeError, match=r"broken\.toml: not valid TOML: Invalid value \(at line 2, column 5\)\."
    ):
        read_toml(broken)
    with pytest.raises(
        RecipeError, match=r"none\.toml: no such file. `r1 init` writes a recipe to start from."
    ):
        read_toml(tmp_path / "none.toml")
    with pytest.raises(RecipeError, match="is a folder; name the recipe file in it"):
        read_toml(tmp_path)
    broken.write_bytes(b"a = '\xff'")
    with pytest.raises(RecipeError, match="not UTF-8 text"):
        read_toml(broken)


def test_lines_are_found_by_keys() -> None:
    text = "\n".join(
        [
            "top = 1",  # 1
            "[stages.a]  # a comment",  # 2
            "steps = 3",  # 3
            "optimizer.rate = 1e-3",  # 4
            "long = [",  # 5
            "  1,",  # 6
            "]",  # 7
            '[problems."a.b"]',  # 8
            "source = 'x'",  # 9
            "[[stages.a.points]]",  # 10
            "value = 1",  # 11
            "[[stages.a.points]]",  # 12
            "value = 2",  # 13
            "[stages.a.points.inner]",  # 14
            "deep = 2",  # 15
        ]
    )
    assert find_line(text, ["top"]) == 1
    assert find_line(text, ["stages", "a", "steps"]) == 3
    assert find_line(text, ["stages", "a", "optimizer", "rate"]) == 4
    assert find_line(text, ["stages", "a", "long", 0]) == 5
    assert find_line(text, ["stages", "a", "not there"]) == 2
    assert find_line(text, ["problems", "a.b", "source"]) == 9
    assert find_line(text, ["stages", "a", "points", 0, "value"]) == 11
    assert find_line(text, ["stages", "a", "points", 1, "value"]) == 13
    assert find_line(text, ["stages", "a", "points", 1, "inner", "deep"]) == 15
    assert find_line(text, ["nowhere"]) is None
    assert Source(Path("r.toml"), text).place(["nowhere"]) == "r.toml"


def test_a_number_with_an_exponent_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text("rate = 1e-6", encoding="utf-8")
    assert read_toml(path)[0] == {"rate": 1e-6}


def test_a_name_in_other_case_is_near() -> None:
    assert nearest("MATH", ["math", "code"]) == "math"
    assert nearest("Accuracy", ["accuracy", "format"]) == "accuracy"
    assert nearest("x", ["math", "code"]) is None
    assert nearest(None, ["math"]) is None
