"""The package for notebooks: run_search, run_retrain and run_compare take plain loaders and a network, and leave no files."""
