"""Stand-in for Triton, of the r1deploy lab: a version, and nothing that compiles. There is none for the CPU."""

__version__ = "3.6.0"
STAND_IN = "r1deploy lab"
