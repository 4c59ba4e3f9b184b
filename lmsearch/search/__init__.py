"""Searching scan directions: the supernet, its alphas, how they learn, what is derived from them and how sure it is."""
