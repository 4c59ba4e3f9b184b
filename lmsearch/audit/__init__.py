"""The audit: whether a search is worth its cost on a user's own data, network and budget, and how sure that is."""
