"""Every figure of the package, as functions of plain numbers that return it; the caller writes or shows it.

None changes a setting of matplotlib that others see. matplotlib is imported when a figure is drawn: it is slow to import.
"""
