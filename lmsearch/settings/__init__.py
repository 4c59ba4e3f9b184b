"""Every configuration key, declared once: dataclasses of tasks and presets, from which readers, checks and --help follow."""
