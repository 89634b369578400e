"""Training: a run's steps and epochs, early stopping, weights and series."""
