"""Semi-nonnegative matrix factorization: ``X ≈ W H`` with ``W ≥ 0`` and ``H`` free."""

from snmf._estimator import SNMF
from snmf._factorize import Factorization, factorize, fit_transform
from snmf._minibatch import MiniBatchSNMF

__all__ = ["SNMF", "Factorization", "MiniBatchSNMF", "__version__", "factorize", "fit_transform"]

__version__ = "0.1.0"
