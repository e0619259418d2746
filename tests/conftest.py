"""What holds for all tests: hypothesis' settings, and a Ctrl-C that reaches what the tests start."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# The same examples each time, and no deadline on a machine that is shared.
settings.register_profile("everyday", deadline=None, derandomize="FUZZ_EXAMPLES" not in os.environ)
settings.load_profile("everyday")

# A shell that starts us in the background has SIGINT ignored, and so would every command that a test interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class OneWorkerPerLab(LoadScopeScheduling):
    """Of a parallel run one worker has all tests on the lab, another the real engine's lab; the rest goes anywhere."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, _ = nodeid.partition("::")
        if not file.startswith("tests/lab/"):
            return nodeid
        return "real engine" if file.endswith("test_real_engine.py") else "lab"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneWorkerPerLab:
    """xdist 3.8 has groups for this, which pytest 9.2 does not let it write into a test's id."""
    return OneWorkerPerLab(config, log)
