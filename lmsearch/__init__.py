"""lmsearch: neural architecture search over scan directions for vision state-space models."""

__version__ = "0.1.0"
