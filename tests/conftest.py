"""Hypothesis in the everyday run: the same examples each time, and no deadline on a machine that is shared."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("everyday", deadline=None, derandomize="FUZZ_EXAMPLES" not in os.environ)
settings.load_profile("everyday")
