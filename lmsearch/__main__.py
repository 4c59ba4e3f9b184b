"""`python -m lmsearch` is the command `lmsearch`."""

from lmsearch.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
