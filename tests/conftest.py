"""What holds for all tests: hypothesis' settings, and a Ctrl-C that reaches what the tests start."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

# The same examples each time, and no deadline on a machine that is shared.
settings.register_profile("everyday", deadline=None, derandomize="FUZZ_EXAMPLES" not in os.environ)
settings.load_profile("everyday")

# A shell that starts us in the background has SIGINT ignored, and so would every command that a test interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
