"""One file per verb of the command line; each reads top-down: set up, run, write the results."""
