"""The class `Options`, the parameters of a fit as plain data, and the λ of a sparsity."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from os import PathLike
from typing import Any, Literal

import numpy as np

from snmf.core.limits import Limits

ALL_ZERO = 1e30  # a sparsity at which all weights are zero, for any number of rows
Solver = Literal["auto", "mu", "hals"]
Init = Literal["auto", "skewness", "varimax", "kmeans", "svd", "random", "custom"]
RandomState = int | np.random.RandomState | np.random.Generator | None
# solver: its W-step in `snmf.core.updates`
UPDATES = {"auto": "multiplicative", "mu": "multiplicative", "hals": "hals"}

# the random starts: only these differ from restart to restart
DRAWN = ("auto", "skewness", "varimax", "kmeans", "random")


@dataclass(frozen=True)
class Options:
    """The parameters of a fit; `snmf.SNMF` documents them."""

    n_components: int | None = None
    tol: float = 1e-5
    max_iter: int = 200
    progress_bar: bool = True
    random_state: RandomState = None
    sparsity: float = 0.01
    verbose: bool = False
    solver: Solver = "auto"
    accelerate: bool = True
    init: Init = "auto"
    n_init: int = 1
    fit_intercept: bool = False
    n_nonzero_features: float | None = None
    positive_components: bool = False
    scale: Any = False
    backend: Any = "auto"
    device: Any = None
    n_jobs: int | None = None
    missing_values: float | None = None
    locality: float = 0.0
    checkpoint: str | PathLike[str] | None = None
    checkpoint_interval: float = 60.0
    warm_start: bool = False


def chosen(solver: str, nonnegative: bool) -> str:
    """Return the solver; "auto" is "hals" for nonnegative components, else "mu".

    With nonnegative components many weights end at zero, which multiplicative steps approach
    slowly.
    """
    return ("hals" if nonnegative else "mu") if solver == "auto" else solver


def limits_of(most: float | None, n_features: int, nonnegative: bool, *, ball: bool) -> Limits:
    """Return the limits of rows with `most` nonzero entries, as a number or a share of them."""
    if most is not None and not isinstance(most, Integral):
        most = max(1, round(most * n_features))
    return Limits(ball, nonnegative, None if most is None else int(most))


def l1_of(sparsity: float, rms: float) -> float:
    """Return the λ of a sparsity, for rows of this root mean square norm."""
    return float(min(sparsity, ALL_ZERO) * rms)


def l1_at_scale(l1: float, exponent: int) -> float:
    """Return λ × 2 ** exponent, at most the largest float64; with such a λ, W is zero."""
    with np.errstate(over="ignore"):
        return float(min(np.ldexp(l1, exponent), np.finfo("float64").max))
