"""Stand-in for FlagScale, of the r1deploy lab, with the lab's plain vendor patch for Metax_C550."""

DEVICE = "Metax_C550"
