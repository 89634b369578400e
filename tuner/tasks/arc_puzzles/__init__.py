"""ARC puzzles: files, made puzzles, tensors, the net that solves them, and pictures."""
