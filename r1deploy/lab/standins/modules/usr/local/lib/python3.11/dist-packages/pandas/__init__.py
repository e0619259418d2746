"""Stand-in of the r1deploy lab: pandas would add 60 MB. It only can be imported."""

__version__ = "2.2.0+r1lab"
