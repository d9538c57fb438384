"""The Hugging Face hub: whether it can be reached, checked immediately instead of by its libraries' retries.

If it can't be, its libraries are switched to offline mode: they use their cache without asking.
"""

import os
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id

_TIMEOUT_SECONDS = 3.0
# How long an answer is valid: a run of several days must not depend on the state at its start.
_ANSWER_HOLDS_SECONDS = 60.0
_OFFLINE_BY_USER = constants.HF_HUB_OFFLINE
_ANSWERS: dict[str, tuple[float, bool]] = {}
_LOCK = threading.Lock()


def is_name(name: str) -> bool:
    """Whether the hub could have something with this name: `model` or `owner/model`."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def unreachable() -> str | None:
    """Why the hub can't be asked, a half sentence; None if it can. Also sets its libraries' offline mode."""
    if _OFFLINE_BY_USER:
        return "HF_HUB_OFFLINE is set, so that the hub is not asked"
    endpoint = constants.ENDPOINT
    with _LOCK:
        asked, answers = _ANSWERS.get(endpoint, (-_ANSWER_HOLDS_SECONDS, False))
        if time.monotonic() - asked >= _ANSWER_HOLDS_SECONDS:
            answers = _answers(endpoint)
            _ANSWERS[endpoint] = time.monotonic(), answers
    _set_offline(not answers)
    host = urlsplit(endpoint).netloc or endpoint
    return None if answers else f"the hub ({host}) can't be reached: no network, or it does not answer"


def has_model(name: str) -> bool:
    """Whether the cache has a model with this name."""
    return isinstance(try_to_load_from_cache(name, "config.json"), str)


def has_data_set(name: str) -> bool:
    """Whether the cache has a data set with this name: its files, or what was built from them."""
    files = Path(constants.HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}"
    made = Path(os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME) / "datasets")
    owner, slash, bare = name.rpartition("/")
    # a name without an owner may be cached under its owner's; `json`, `csv` and others are builders for files
    found = [f"{owner}___*"] if slash else [bare, f"*___{bare}"]
    return files.is_dir() or any(any(made.glob(pattern)) for pattern in found)


def _answers(endpoint: str) -> bool:
    """Whether a server answers, with any status."""
    found: list[bool] = []

    def ask() -> None:
        request = urllib.request.Request(endpoint, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS):
                found.append(True)
        except urllib.error.HTTPError:
            found.append(True)
        except urllib.error.URLError as error:
            # an unknown certificate still means a server, and the hub's library may have other certificates
            found.append("CERTIFICATE" in str(error.reason))
        except OSError:
            found.append(False)

    # name resolution has no time-out, so the request runs in a thread
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_TIMEOUT_SECONDS + 0.5)
    return bool(found and found[0])


def _set_offline(is_offline: bool) -> None:
    constants.HF_HUB_OFFLINE = is_offline
    if "datasets.config" in sys.modules:  # it copies the hub's setting at import
        sys.modules["datasets.config"].HF_HUB_OFFLINE = is_offline  # type: ignore[attr-defined]
