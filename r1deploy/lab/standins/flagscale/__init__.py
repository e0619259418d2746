"""Stand-in for FlagScale, of the r1deploy lab; its parts import each other from this folder."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
