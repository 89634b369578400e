"""Find good hyperparameters for PyTorch models, and understand them."""

import os

__version__ = "0.1.0"

# MKL's results depend on how a matrix lies in memory unless it is told otherwise, before its first call.
os.environ.setdefault("MKL_CBWR", "AUTO")
