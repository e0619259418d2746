"""What the user wants: r1deploy.yaml, profiles, the lock file."""
