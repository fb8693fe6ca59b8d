"""The read side: folds, rows, positions, questions."""
