"""Stand-in for FlagScale, of the r1deploy lab."""
