"""Weights from and for other code: the published LocalMamba."""
