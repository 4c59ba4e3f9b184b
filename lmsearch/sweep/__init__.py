"""Trying values of configuration keys with Optuna: ranges, the study, workers and results. Knows no task and no Hydra."""
