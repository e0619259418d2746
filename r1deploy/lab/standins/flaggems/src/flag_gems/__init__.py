"""Stand-in for FlagGems, of the r1deploy lab: it replaces no operator."""

import logging

__version__ = "2.1"
STAND_IN = "r1deploy lab"


def enable():
    """Say what the real one's caller logs."""
    logging.getLogger("flag_gems").info("Successfully enabled flag_gems")
    return True
