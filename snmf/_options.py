"""The parameters of a fit, and what they may be."""

from __future__ import annotations

from dataclasses import dataclass, fields
from numbers import Integral, Real
from os import PathLike
from typing import Any

import numpy as np
from sklearn.utils import check_random_state as of_scikit_learn
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints

from snmf.backends import Backend
from snmf.core.start import STARTS

ALL_ZERO = 1e30  # a sparsity from which on no weight is left, whatever the number of rows
UPDATES = {"mu": "multiplicative", "hals": "hals"}  # solver: its W-step in `snmf.core.updates`

PARAMETERS: dict[str, list[Any]] = {
    "n_components": [Interval(Integral, 1, None, closed="left"), None],  # SNMF knows "auto"
    "tol": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Interval(Integral, 0, None, closed="left")],
    "progress_bar": ["boolean"],
    "random_state": ["random_state", np.random.Generator],
    "sparsity": [Interval(Real, 0, None, closed="left")],
    "verbose": ["verbose"],
    "solver": [StrOptions(set(UPDATES))],
    "accelerate": ["boolean"],
    "init": [StrOptions({*STARTS, "custom"})],
    "n_init": [Interval(Integral, 1, None, closed="left")],
    "backend": [str, Backend],  # `choose` knows the names
    "device": [object],
    "missing_values": ["nan", None],
    "locality": [Interval(Real, 0, 2**20, closed="both")],
    "checkpoint": [str, PathLike, None],
    "checkpoint_interval": [Interval(Real, 0, None, closed="left")],
    "warm_start": ["boolean"],
    "n_jobs": [
        Interval(Integral, 1, None, closed="left"),
        Interval(Integral, None, -1, closed="right"),
        None,
    ],
}


def check_random_state(random_state: Any) -> np.random.RandomState:
    """As scikit-learn's, but for a Generator of NumPy too, from which is then drawn."""
    if isinstance(random_state, np.random.Generator):
        return np.random.RandomState(random_state.bit_generator)
    return of_scikit_learn(random_state)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Options:
    """The parameters of a fit; `snmf.SNMF` documents them."""

    n_components: int | None = None
    tol: float = 1e-5
    max_iter: int = 200
    progress_bar: bool = True
    random_state: Any = None
    sparsity: float = 0.0
    verbose: bool = False
    solver: str = "mu"
    accelerate: bool = True
    init: str = "kmeans"
    n_init: int = 1
    backend: str | Backend = "auto"
    device: Any = None
    n_jobs: int | None = None
    missing_values: float | None = None
    locality: float = 0.0
    checkpoint: str | PathLike[str] | None = None
    checkpoint_interval: float = 60.0
    warm_start: bool = False

    def __post_init__(self) -> None:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        validate_parameter_constraints(PARAMETERS, values, caller_name="SNMF")
        if isinstance(self.random_state, np.random.Generator):
            object.__setattr__(self, "random_state", check_random_state(self.random_state))
        if self.locality and self.missing_values is not None:
            raise ValueError(
                "locality asks for distances, which rows with missing values do not have: "
                "set locality=0, or impute"
            )
