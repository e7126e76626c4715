"""`python -m potemkin` is the same command as `potemkin`."""

from potemkin.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
