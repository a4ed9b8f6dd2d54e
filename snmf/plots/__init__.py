"""Pictures of a fitted model, as scikit-learn's displays: ``from_estimator``, then ``plot``.

They read fitted attributes only, and import matplotlib when they plot.
"""

from snmf.plots.bound import svd_bound
from snmf.plots.components import ComponentsDisplay
from snmf.plots.convergence import ConvergenceDisplay
from snmf.plots.selection import SelectionDisplay
from snmf.plots.weights import WeightsDisplay

__all__ = [
    "ComponentsDisplay",
    "ConvergenceDisplay",
    "SelectionDisplay",
    "WeightsDisplay",
    "svd_bound",
]
