"""The wheel in an environment of its own: commands, recipes, base models and the schema are all in it."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import r1kit

ROOT = Path(__file__).parent.parent


def run(command: list[object], folder: Path) -> str:
    """What a command prints, called from a folder where nothing of the checkout can be imported."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of a fresh environment with the built wheel; what it depends on is this environment's."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], folder)
    [wheel] = folder.glob("r1kit-*.whl")
    assert wheel.name == f"r1kit-{r1kit.__version__}-py3-none-any.whl"
    venv.create(folder / "fresh", with_pip=False, symlinks=True)
    scripts = folder / "fresh" / "bin"
    run([*pip, "--python", scripts / "python", "install", "--no-deps", "--no-index", wheel], folder)
    [site] = (folder / "fresh" / "lib").glob("python*/site-packages")
    # a path in a .pth file does not run the .pth files there: the checkout stays out of sight
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    return scripts


@pytest.mark.slow
def test_the_version_under_every_name(scripts: Path, tmp_path: Path) -> None:
    code = "import r1kit; print(r1kit.__file__)"
    assert str(scripts.parent) in run([scripts / "python", "-c", code], tmp_path)
    for command in ([scripts / "r1"], [scripts / "r1kit"], [scripts / "python", "-m", "r1kit"]):
        assert run([*command, "--version"], tmp_path) == f"r1kit {r1kit.__version__}\n"


@pytest.mark.slow
def test_the_demo_can_be_run_from_it(scripts: Path, tmp_path: Path) -> None:
    assert "problems.reasoning" in run([scripts / "r1", "doctor", "demo"], tmp_path)
    out = run([scripts / "r1kit", "run", "demo", "--dry-run"], tmp_path)
    assert "#   r1 " in out
    assert not list(tmp_path.iterdir())
    run([scripts / "r1", "init", "my.toml"], tmp_path)
    run([scripts / "r1", "init", "tw.toml", "--model", "tinyworld", "--data", "tinyworld"], tmp_path)
    assert "problems.test" in run([scripts / "r1", "doctor", "tw.toml"], tmp_path)
    (tmp_path / "mine.toml").write_text('extends = "demo"\n', encoding="utf-8")
    assert 'name = "mine"' in run([scripts / "r1", "run", "mine.toml", "--dry-run"], tmp_path)


@pytest.mark.slow
def test_the_schema_lies_beside_the_recipes_that_name_it(scripts: Path) -> None:
    [recipes] = (scripts.parent / "lib").glob("python*/site-packages/r1kit/recipes")
    assert (recipes / "recipe.schema.json").is_file()
    assert {path.stem for path in recipes.glob("*.toml")} >= {"demo", "tiny", "own"}
