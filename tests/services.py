"""The libraries of services that tests check with; `make services` installs them."""

import importlib
import os
from typing import Any

import pytest

_VARIABLE = "R1KIT_NEEDS_SERVICES"


def service_module(name: str) -> Any:
    """The module; without it the test is skipped, or fails where $R1KIT_NEEDS_SERVICES is set, as in CI."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if os.environ.get(_VARIABLE):
            pytest.fail(f"{_VARIABLE} is set, and {name} can't be imported: {error}")
        pytest.skip(f"{name} can't be imported ({error}); `make services` installs it")
