"""Exit codes and messages of the command; what it does is tested where it is done."""

import errno
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import r1kit
from r1kit import cli
from r1kit.pipeline import run as run_module
from r1kit.pipeline.interrupt import RunInterrupted
from tests.pipeline.fakes import World, make_world


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A recipe whose stages are faked, also where the command runs them."""
    world = make_world(tmp_path / "world")
    fakes = {"grpo": world._train, "sft": world._train, "cold_start": world._make_data}
    defaults = {"runners": fakes, "preflight": lambda context, jobs: None}  # the base is no model to look at
    monkeypatch.setattr(
        run_module.run_recipe, "__kwdefaults__", run_module.run_recipe.__kwdefaults__ | defaults
    )
    return world


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Call the command as the shell does; its exit code."""
    monkeypatch.setattr(sys, "argv", ["r1", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def test_run_then_status(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "status", world.recipe) == 0
    assert capsys.readouterr().out.count("to do") == 4
    assert call(monkeypatch, "run", world.recipe) == 0
    out = capsys.readouterr().out
    assert "Done in 0:0" in out
    assert "\x1b" not in out
    assert call(monkeypatch, "status", world.recipe) == 0
    assert capsys.readouterr().out.count("done") == 4


def test_plan_says_what_memory_goes_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    assert call(monkeypatch, "plan", "demo", "--stages", "zero", "--no-measure") == 0
    out = capsys.readouterr().out
    for name in ("weights", "gradients", "optimizer", "sampler cache", "activations", "peak"):
        assert f" {name} " in out
    assert "100.00% of" in out
    assert "Estimates for each process on" in out
    assert not list(tmp_path.iterdir())  # a plan leaves nothing behind


def test_seed_output_and_stages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        call(
            monkeypatch, "run", world.recipe, "--seed", 3, "--output", world.folder / "b", "--stages", "cold"
        )
        == 0
    )
    assert world.made == ["zero", "cold"]
    assert (world.folder / "b" / "cold" / "manifest.json").is_file()
    assert not world.out.exists()


def test_several_seeds_have_a_folder_each(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "run", world.recipe, "--seeds", "0,1") == 0
    weights = [(world.out / f"seed-{n}" / "dev2" / "model" / "model.safetensors").read_text() for n in (0, 1)]
    assert weights[0] != weights[1]


def test_a_value_can_be_set_for_one_run_and_is_kept_by_what_it_made(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    setting = ("--set", "stages.dev1.epochs=5")
    assert call(monkeypatch, "run", world.recipe, *setting) == 0
    assert json.loads((world.out / "dev1" / "manifest.json").read_text())["key"]["config"]["epochs"] == 5
    capsys.readouterr()
    assert call(monkeypatch, "status", world.recipe, *setting) == 0
    assert capsys.readouterr().out.count("done") == 4
    assert call(monkeypatch, "status", world.recipe) == 0
    assert "stages.dev1.epochs was 5, is 2" in capsys.readouterr().out


def test_a_dry_run_prints_the_recipe_and_the_route_and_starts_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("run", world.recipe, "--dry-run", "--set", "run.processes=2", "--seed", 7)
    assert call(monkeypatch, *arguments) == 0
    out = capsys.readouterr().out
    table = tomllib.loads(out)
    assert table["run"] == {"name": "fake", "output_dir": str(world.out), "seed": 7, "processes": 2}
    assert table["stages"]["dev1"]["epochs"] == 2
    assert out.endswith(
        f"# What would run, in {world.out}:\n"
        "#   zero  grpo        new: it has not been made\n"
        "#   cold  cold_start  new: after zero\n"
        "#   dev1  sft         new: after cold\n"
        "#   dev2  grpo        new: after dev1\n"
        "# Nothing was started or written.\n"
    )
    assert world.made == []
    assert not world.out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["run", "RECIPE", "--dry-run", "--seeds", "0,1"],
            "--dry-run shows one run: give --seed, not --seeds.",
        ),
        (
            ["doctor", "RECIPE", "--set", "stages.zero.stps=3"],
            "--set stages.zero.stps=3: unknown key `stages.zero.stps`; did you mean `steps`?",
        ),
        (
            ["plan", "RECIPE", "--set", "stages.zreo.steps=3"],
            "--set stages.zreo.steps=3: no `stages.zreo` in the recipe; did you mean `zero`?",
        ),
        (["run", "none.toml"], "none.toml: no such file. `r1 init` writes a recipe to start from."),
        (["run", "tinny"], "tinny: no such file, and no shipped recipe of this name; did you mean `tiny`?"),
        (["run", "RECIPE", "--stages", "dve1"], "no stage `dve1` in the recipe; did you mean `dev1`?"),
        (["run", "RECIPE", "--seeds", "0;1"], "--seeds 0;1: should be numbers and commas, such as 0,1,2."),
        (["run", "RECIPE", "--seeds", "0,1", "--seed", "1"], "give --seed or --seeds, not both."),
        (["sample", "RECIPE", "cold"], "stage `cold` is of kind cold_start; it has no model to talk to."),
        (["report", "RECIPE"], "RECIPE is a file; name a run's folder (`r1 status` says where)."),
        (["report", "nowhere"], "nowhere is not a run's folder: there is no run.json in it."),
        (["eval", "RECIPE"], "RECIPE: there is no [eval] table; add one that says what to use."),
        (["tinyworld", "build", "--only", "big"], "--only big: should be one of base, small, code."),
    ],
)
def test_what_the_user_can_mend_is_one_sentence_and_exit_code_2(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    recipe = str(world.recipe)
    assert call(monkeypatch, *(recipe if a == "RECIPE" else a for a in arguments)) == 2
    assert capsys.readouterr().err.strip() == message.replace("RECIPE", recipe)


def test_a_fault_in_the_recipe_names_its_line(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.edit("epochs = 2", "epocs = 2")
    assert call(monkeypatch, "run", world.recipe) == 2
    assert capsys.readouterr().err == (
        f"{world.recipe}:45: unknown key `stages.dev1.epocs`; did you mean `epochs`?\n"
    )


def test_a_stopped_run_exits_with_130_and_says_how_to_go_on(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(context: object) -> None:
        raise KeyboardInterrupt

    world.before["dev1"] = stop
    assert call(monkeypatch, "run", world.recipe) == 130
    assert capsys.readouterr().err == (
        f"Stopped in dev1. Nothing is lost; `r1 run {world.recipe}` resumes from there.\n"
    )
    assert RunInterrupted.__doc__


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, "runs/x: no space left on the disk."),
        (errno.EACCES, "runs/x: no permission."),
    ],
)
def test_what_the_machine_refuses_is_one_sentence(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    code: int,
    message: str,
) -> None:
    def refuse(context: object) -> None:
        raise OSError(code, "refused", "runs/x")

    world.before["dev1"] = refuse
    assert call(monkeypatch, "run", world.recipe) == 2
    error = capsys.readouterr().err
    assert error == f"{message} Nothing that was finished is lost; run the same command again to resume.\n"


def test_a_bug_keeps_its_traceback(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(context: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "no such file", "something of ours")

    world.before["dev1"] = fail
    monkeypatch.setattr(sys, "argv", ["r1", "run", str(world.recipe)])
    with pytest.raises(FileNotFoundError):
        cli.main()


def test_init_writes_a_recipe_and_overwrites_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "mine.toml"
    assert call(monkeypatch, "init", path) == 0
    assert "[problems.train]" in path.read_text(encoding="utf-8")
    assert f"`r1 run {path}`" in capsys.readouterr().out
    assert call(monkeypatch, "init", path) == 2
    assert "is there already" in capsys.readouterr().err


def test_the_version_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"r1kit {r1kit.__version__}\n"


def call_apart(folder: Path, arguments: list[str], **environment: str) -> str:
    """What the command prints when it is called as `r1` in a process of its own."""
    code = f"from r1kit.cli import app; app({arguments!r} or None, prog_name='r1')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | environment,
        timeout=120,
    )
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_installed(shell: str, tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    out = call_apart(tmp_path, ["--install-completion", shell], **home)
    assert f"{shell} completion installed in {tmp_path}" in out
    written = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.is_file()]
    assert any("_R1_COMPLETE" in text for text in written)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("ti", ["tiny"]),
        ("d", ["deepseek-r1", "demo", "data.toml", "deep/"]),
        ("deep/", ["deep/a.toml", "deep/er/"]),
        ("./da", ["./data.toml"]),
        ("nothing/", []),
        ("zz", []),
    ],
)
def test_the_shell_completes_recipes(
    typed: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("data.toml", "data.csv", "deep/a.toml", "deep/er/b.toml", ".hidden/c.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("", encoding="utf-8")
    asked = {"_R1_COMPLETE": "complete_bash", "COMP_WORDS": f"r1 run {typed}", "COMP_CWORD": "2"}
    assert call_apart(tmp_path, [], **asked).split() == expected


def test_help_answers_without_loading_torch() -> None:
    code = "import sys; sys.argv = ['r1', '--help']\ntry:\n    from r1kit.cli import main; main()\n"
    code += "except SystemExit: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for command in ("run", "status", "eval", "report", "sample", "init", "tinyworld"):
        assert command in done.stdout
