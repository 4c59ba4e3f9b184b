"""Scan orders: the patterns, the directions named after them, and tables that users bring along."""
