"""Training and evaluating any module on any loader: knows parameter lists and objectives, not supernets."""
