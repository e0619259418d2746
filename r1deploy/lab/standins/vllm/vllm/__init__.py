"""Stand-in for vLLM, of the r1deploy lab."""

__version__ = "0.7.3"
