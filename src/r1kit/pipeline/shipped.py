"""The recipes that come with the package, found by name: `r1 run tiny`."""

from pathlib import Path

from r1kit.config import suggest
from r1kit.errors import RecipeError

_PACKAGE = Path(__file__).parent.parent
# An installed package has the recipes inside it; a checkout has them beside `src`.
_FOLDERS = (_PACKAGE / "recipes", _PACKAGE.parent.parent / "recipes")
OWN_RECIPE = "own"
"""The recipe that `r1 init` starts from."""


def shipped_recipes() -> dict[str, Path]:
    """Name and file of every recipe that comes with the package."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.toml"))} if folder is not None else {}


def find_recipe(name: str) -> Path:
    """The file that a path or a shipped recipe's name stands for. Raises `RecipeError` for neither."""
    path, shipped = Path(name).expanduser(), shipped_recipes()
    if path.is_file():
        return path
    if name in shipped:  # also one with a dot in its name, or beside a folder of that name
        return shipped[name]
    if path.exists() or path.suffix:
        return path  # clearly a path: reading it reports what is wrong
    advice = shipped_recipe_or_advice(name)
    raise RecipeError(f"{name}: no such file, and no shipped recipe of this name; {advice}")


def shipped_recipe_or_advice(name: str) -> Path | str:
    """The shipped recipe of a name; if there is none, half a sentence that suggests others."""
    shipped = shipped_recipes()
    return shipped[name] if name in shipped else suggest(name, list(shipped))


def recipes_like(incomplete: str) -> list[str]:
    """For shell completion: shipped recipes by name, and recipe files and folders by path."""
    names = [name for name in shipped_recipes() if name.startswith(incomplete)]
    head, slash, start = incomplete.rpartition("/")
    folder = Path(f"{head}{slash}" or ".").expanduser()
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        hidden = path.name.startswith(".") and not start.startswith(".")
        if path.name.startswith(start) and not hidden and (path.suffix == ".toml" or path.is_dir()):
            names.append(f"{head}{slash}{path.name}{'/' if path.is_dir() else ''}")
    return names
