"""Stand-in for FlagScale, of the r1deploy lab, with the lab's vendor patch for BI_V150."""

DEVICE = "BI_V150"
