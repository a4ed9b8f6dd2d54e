"""Plots of a fitted model, as display classes like those of scikit-learn.

Call ``from_estimator`` to draw a fitted estimator, or make a display from arrays and call ``plot``.
matplotlib is imported on the first plot.
"""

from snmf.plots.bound import svd_bound
from snmf.plots.components import ComponentsDisplay
from snmf.plots.consensus import ConsensusDisplay
from snmf.plots.convergence import ConvergenceDisplay
from snmf.plots.features import TopFeaturesDisplay
from snmf.plots.hierarchy import HierarchyDisplay
from snmf.plots.selection import SelectionDisplay
from snmf.plots.usage import UsageDisplay
from snmf.plots.weights import WeightsDisplay

__all__ = [
    "ComponentsDisplay",
    "ConsensusDisplay",
    "ConvergenceDisplay",
    "HierarchyDisplay",
    "SelectionDisplay",
    "TopFeaturesDisplay",
    "UsageDisplay",
    "WeightsDisplay",
    "svd_bound",
]


def __dir__() -> list[str]:
    return __all__
