"""The parameters of a fit, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import Any

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
