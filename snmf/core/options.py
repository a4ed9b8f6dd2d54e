"""The parameters of a fit, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

ALL_ZERO = 1e30  # a sparsity from which on no weight is left, whatever the number of rows
UPDATES = {"mu": "multiplicative", "hals": "hals"}  # solver: its W-step in `snmf.core.updates`

DRAWN = ("kmeans", "random")  # the starts that a restart can change


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
    backend: Any = "auto"
    device: Any = None
    n_jobs: int | None = None
    missing_values: float | None = None
    locality: float = 0.0
    checkpoint: str | PathLike[str] | None = None
    checkpoint_interval: float = 60.0
    warm_start: bool = False


def l1(sparsity: float, rms: float) -> float:
    """The λ of that sparsity, where rows have that root mean square norm."""
    return float(min(sparsity, ALL_ZERO) * rms)


def l1_at_scale(l1: float, exponent: int) -> float:
    """λ × 2 ** exponent, or the largest float64 if that exceeds it: then W is zero."""
    with np.errstate(over="ignore"):
        return float(min(np.ldexp(l1, exponent), np.finfo("float64").max))
