"""Tests that run programs need bubblewrap: skipped without it, except where CI says that it is there."""

import os

import pytest

from r1kit.sandbox import sandbox_refusal


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    caged = [item for item in items if item.get_closest_marker("sandbox")]
    if not caged or os.environ.get("R1KIT_NEEDS_SANDBOX"):
        return
    if refusal := sandbox_refusal():
        for item in caged:
            item.add_marker(pytest.mark.skip(reason=refusal))
