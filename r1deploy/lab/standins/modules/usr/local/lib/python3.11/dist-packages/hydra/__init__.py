"""Stand-in of the r1deploy lab: Debian has no hydra. It only can be imported."""

__version__ = "1.3.2+r1lab"
