"""Semi-nonnegative matrix factorization: ``X ≈ W H`` with ``W ≥ 0`` and ``H`` of any sign.

The estimators `SNMF`, `MiniBatchSNMF`, `HierarchicalSNMF` and `ConvexNMF` follow scikit-learn;
`factorize` and `fit_transform` are functions. `select_n_components` compares numbers of components;
`align` and `stability` compare fits, `consensus` and `merge` join them; `save` and `load` keep
models in files. `snmf.plots` draws results, and `snmf.backends` holds the array libraries.
`snmf.anndata` works on AnnData, and `snmf.torch` has a module for PyTorch.
"""

from typing import TYPE_CHECKING

__all__ = [
    "SNMF",
    "Alignment",
    "Consensus",
    "ConsensusTable",
    "ConvexNMF",
    "Diagnostics",
    "Factorization",
    "HierarchicalSNMF",
    "Merged",
    "MiniBatchSNMF",
    "Selection",
    "Stability",
    "__version__",
    "align",
    "consensus",
    "factorize",
    "fit_transform",
    "load",
    "merge",
    "save",
    "select_n_components",
    "stability",
]

__version__ = "0.1.0"

if TYPE_CHECKING:
    from snmf._agreement import Alignment, Stability, align, stability
    from snmf._consensus import Consensus, ConsensusTable, Merged, consensus, merge
    from snmf._convex import ConvexNMF
    from snmf._diagnostics import Diagnostics
    from snmf._estimator import SNMF
    from snmf._factorize import Factorization, factorize, fit_transform
    from snmf._hierarchy import HierarchicalSNMF
    from snmf._minibatch import MiniBatchSNMF
    from snmf._model_file import load, save
    from snmf._selection import Selection, select_n_components
else:  # imported on first use, so that ``snmf --help`` is fast
    _HOMES = {
        "Alignment": "_agreement",
        "Stability": "_agreement",
        "align": "_agreement",
        "stability": "_agreement",
        "Consensus": "_consensus",
        "ConsensusTable": "_consensus",
        "Merged": "_consensus",
        "consensus": "_consensus",
        "merge": "_consensus",
        "ConvexNMF": "_convex",
        "Diagnostics": "_diagnostics",
        "SNMF": "_estimator",
        "Factorization": "_factorize",
        "factorize": "_factorize",
        "fit_transform": "_factorize",
        "HierarchicalSNMF": "_hierarchy",
        "MiniBatchSNMF": "_minibatch",
        "load": "_model_file",
        "save": "_model_file",
        "Selection": "_selection",
        "select_n_components": "_selection",
    }
    _MODULES = ("anndata", "backends", "plots", "torch")

    def __getattr__(name):
        from importlib import import_module

        if name in _MODULES:
            return import_module(f"snmf.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module 'snmf' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"snmf.{_HOMES[name]}"), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__, *_MODULES})
