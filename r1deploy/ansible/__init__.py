"""The one door to ansible-runner."""
