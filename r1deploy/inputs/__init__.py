"""What is wanted, made exact: git refs, patch and key, tarball, bundle, lock."""
