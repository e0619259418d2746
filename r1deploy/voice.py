"""How a run speaks to whoever started it: the types of what it is given for that."""

from __future__ import annotations

from collections.abc import Callable

# A sentence.
Say = Callable[[str], None]
# A bar: what is done, so much of it, of so much.
Progress = Callable[[str, int, int], None]
