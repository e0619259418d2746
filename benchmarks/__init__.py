"""What r1deploy costs beside other ways of doing the same, side by side in one run: `make bench`."""
