"""Guests are found by name, loaded when named, and refused in one sentence where they can't be used."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from r1kit.data import guests
from r1kit.data.guests import count_tries, find_checkpoint, find_guest, find_oracle, guest_of, guests_on
from r1kit.data.sources import ProblemSource, load_problems
from r1kit.errors import DataError, RecipeError, UserError
from tests.abacus import environment, install, install_abacus, on_the_path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    install_abacus(folder)
    return folder


@pytest.fixture
def installed(site: Path) -> Iterator[Path]:
    with on_the_path(site):
        yield site


def test_tinyworld_needs_no_metadata_and_is_loaded_when_it_is_named() -> None:
    code = "import sys; from r1kit.data.guests import GROUP, entry_points, find_checkpoint, guest_names\n"
    code += "assert 'tinyworld' not in entry_points(group=GROUP).names and 'tinyworld' in guest_names()\n"
    code += "assert not [name for name in sys.modules if name.startswith('r1kit.tinyworld')]\n"
    code += "print(find_checkpoint('tinyworld-small').name)\n"
    code += "assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "small\n", done.stderr


def test_a_name_says_whose_it_is_and_no_other_guest_is_loaded(installed: Path) -> None:
    names = ("abacus", "abacus-more", "tinyworld-x", "abacuses", "own.jsonl", "")
    owners = [None if (guest := guest_of(name)) is None else guest.name for name in names]
    assert owners == ["abacus", "abacus", "tinyworld", None, None, None]
    assert find_guest("abacus-more") is None
    assert find_checkpoint("abacus") == installed / "abacus_world" / "base"
    assert find_checkpoint("tinyworld").name == "base"
    assert find_checkpoint("abacus-large") is None
    guests.forget()
    for name in [name for name in sys.modules if name.startswith("abacus_world")]:
        del sys.modules[name]
    assert find_checkpoint("tinyworld") is not None
    assert "abacus_world.guest" not in sys.modules


def test_a_guests_problems_are_a_source_with_its_name_and_options(installed: Path, tmp_path: Path) -> None:
    source = ProblemSource(source="abacus", num_problems=3, options={"largest": 2}, languages=["zh"])
    problems = load_problems(source, seed=1, base_dir=tmp_path)
    # 1 + (seed + i) % 2 + i: 2 + 0, 1 + 1, 2 + 2
    assert [(p.ground_truth, p.source, p.language) for p in problems] == [
        ("2", "abacus", "zh"),
        ("2", "abacus", "zh"),
        ("4", "abacus", "zh"),
    ]
    wrong = ProblemSource(source="abacus", num_problems=3, options={"largest": 0})
    with pytest.raises(RecipeError, match="problems from abacus: abacus adds numbers from 1 on, not up to 0"):
        load_problems(wrong, seed=1, base_dir=tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "abacus makes as many problems as are asked for; set `num_problems`"),
        ({"num_problems": 2, "options": {"lagest": 3}}, "abacus has no option 'lagest'; did you mean 'larg"),
        ({"num_problems": 2, "tiers": ["hard"]}, r"`tiers` has no meaning for abacus, .* languages, num_pro"),
        ({"num_problems": 2, "kind": "logic"}, r"`kind` .* \(it takes languages, num_problems, options, s"),
    ],
)
def test_what_a_guests_source_does_not_take_is_refused(
    installed: Path, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        ProblemSource(source="abacus", **fields)


def test_a_source_without_options_refuses_them(installed: Path, tmp_path: Path) -> None:
    for source in ("abacus-manners", "tinyworld"):
        with pytest.raises(ValidationError, match="`options` is for reasoning_gym sources only"):
            ProblemSource(source=source, num_problems=2, options={"largest": 3})


def test_a_source_that_no_guest_has_is_a_file_and_names_the_near_miss(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match=r'for the well-known set: source = "gsm8k"'):
        load_problems(ProblemSource(source="gsm8"), seed=0, base_dir=tmp_path)
    with pytest.raises(DataError, match="abacus-maners"):
        load_problems(ProblemSource(source="abacus-maners"), seed=0, base_dir=tmp_path)


def test_tries_are_the_guests_own_and_nobodys_elsewhere(installed: Path) -> None:
    assert count_tries("abacus", "sums", "click click") == 2
    assert count_tries("abacus", "manners", "click") is None
    assert count_tries("tinyworld", "search", "Try 3 and 4: 12, too small. Try 5 and 2: 10, yes.") == 2
    assert count_tries("tinyworld", "word", "Try 3 and 4: 12, too small.") is None
    assert count_tries("own.jsonl", "search", "Try 3 and 4: 12, too small.") is None


def test_a_path_leads_to_the_guest_whose_package_it_goes_through(installed: Path) -> None:
    def found(path: str) -> list[str]:
        return [guest.name for guest in guests_on([path])]

    assert found("/elsewhere/site-packages/abacus_world/base") == ["abacus"]
    assert found("/x/r1kit/tinyworld/checkpoints/base") == ["tinyworld"]
    assert found("runs/my-abacus/zero/model") == []


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            "import nowhere_at_all",
            r"'bad' can't be loaded from bad_world\.guest:GUEST: No module named",
        ),
        (
            "",
            r"'bad' can't be loaded from bad_world\.guest:GUEST: .*GUEST.*; install its package again",
        ),
        ("GUEST = 3", r"bad_world\.guest:GUEST should be a Guest named 'bad', .*, but is of type int"),
        ("from r1kit.tinyworld.guest import GUEST", "but is the guest 'tinyworld'"),
        (
            "from r1kit.data.guests import *\nGUEST = Guest(name='bad', checkpoints={'good': Path('x')})",
            "the guest 'bad' brings 'good', which should be `bad` or `bad-...`",
        ),
    ],
)
def test_a_guest_that_can_not_be_used_is_refused_once_it_is_named(
    tmp_path: Path, module: str, message: str
) -> None:
    install(tmp_path, "bad", module)
    with on_the_path(tmp_path):
        assert find_oracle("tinyworld") is not None
        with pytest.raises(UserError, match=message):
            find_checkpoint("bad-small")


def test_two_guests_of_one_name_are_refused(tmp_path: Path) -> None:
    install(tmp_path, "tinyworld", "GUEST = None")
    with (
        on_the_path(tmp_path),
        pytest.raises(UserError, match="two guests are named 'tinyworld': r1kit"),
    ):
        find_checkpoint("tinyworld")


def test_a_package_that_is_found_twice_is_one_guest(site: Path, tmp_path: Path) -> None:
    install(tmp_path, "abacus", "")
    with on_the_path(tmp_path), on_the_path(site):
        assert find_guest("abacus") is not None


def test_another_process_finds_an_installed_guest(site: Path) -> None:
    code = "from r1kit.model.loading import resolve_model; print(resolve_model('abacus'))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(site), capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{site / 'abacus_world' / 'base'}\n"
