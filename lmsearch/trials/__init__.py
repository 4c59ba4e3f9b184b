"""Where Optuna keeps trials: shared by discrete searches and sweeps."""
