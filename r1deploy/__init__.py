"""r1deploy: from a hostfile to a served DeepSeek-R1, again and again."""

__version__ = "0.1.0"
