"""Statistics of measured numbers: ranks, tests and intervals."""
