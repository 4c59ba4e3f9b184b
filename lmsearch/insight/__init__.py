"""What a trained network looks at, and what its directions do for it: plain arrays, which lmsearch.figures draws."""
