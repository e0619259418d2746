"""The pure heart: what is wanted, what was found, and the difference. No I/O, no clock, no environment."""
