"""``python -m r1deploy``."""

from r1deploy.cli.main import main

if __name__ == "__main__":
    main()
