"""The page of a run: what was found, in plain words first, as HTML, Markdown and JSON from one source (`blocks`).

`folder` reads a run folder, `story` puts the page together, `render` writes it out. No network, no script, one file.
"""
