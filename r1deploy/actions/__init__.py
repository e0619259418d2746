"""A file per verb: the readable order of effects."""
