"""A file a CLI verb: the readable order of its effects. Each takes a Run."""
