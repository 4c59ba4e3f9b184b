"""How alphas learn."""
