"""How far to trust a search."""
