"""Data sources: one file each, one `build_*` function each."""
