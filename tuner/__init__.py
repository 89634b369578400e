"""Find good hyperparameters for PyTorch models, and understand them."""

__version__ = "0.1.0"
