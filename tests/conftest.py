"""What holds for all tests.

Those that run programs need bubblewrap, and are skipped without it, except where CI says that it is there.
"""

import os
import signal

import pytest

from r1kit.sandbox import sandbox_refusal

# A suite started in the background of a script ignores Ctrl-C, and so would the runs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    caged = [item for item in items if item.get_closest_marker("sandbox")]
    if not caged or os.environ.get("R1KIT_NEEDS_SANDBOX"):
        return
    if refusal := sandbox_refusal():
        for item in caged:
            item.add_marker(pytest.mark.skip(reason=refusal))
