"""Where the shipped checkpoints lie: Hugging Face folders inside the package."""

from pathlib import Path

_FOLDER = Path(__file__).parent / "checkpoints"


def base_dir() -> Path:
    """The base model with its tokenizer."""
    return _FOLDER / "base"


def small_dir() -> Path:
    """The smaller base that is distilled into."""
    return _FOLDER / "small"


def code_dir() -> Path:
    """The base after more documents, which have programs too."""
    return _FOLDER / "code"
