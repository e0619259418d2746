"""What is there: the inventory, the probe, and the View that comes of both."""
