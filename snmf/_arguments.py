"""Checks of the arguments other than X: parameters, a given W or H, `fixed`, sample weights.

Every function raises ValueError or TypeError if an argument is invalid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from numbers import Integral, Real
from os import PathLike
from typing import Any, TypedDict

import numpy as np
from sklearn.utils import check_array
from sklearn.utils import check_random_state as of_scikit_learn
from sklearn.utils._param_validation import (
    Interval,
    RealNotInt,
    StrOptions,
    validate_parameter_constraints,
)

from snmf.backends import Backend, owner
from snmf.core.options import UPDATES, Init, Options, RandomState, Solver
from snmf.core.start import STARTS


class OfManyFits(TypedDict, total=False):
    """The types of the parameters of `SNMF` that a function passes on to all of its fits."""

    tol: float
    max_iter: int
    progress_bar: bool
    sparsity: float
    verbose: bool
    solver: Solver
    accelerate: bool
    init: Init
    n_init: int
    fit_intercept: bool
    n_nonzero_features: float | None
    positive_components: bool
    scale: Any
    backend: str | Backend
    device: Any
    missing_values: float | None
    locality: float


class OfThreadedFits(OfManyFits, total=False):
    """The same, and the number of threads of a fit."""

    n_jobs: int | None


class OfOneFit(OfThreadedFits, total=False):
    """The types of the parameters of `SNMF`, for a function that makes one fit."""

    random_state: RandomState
    checkpoint: str | PathLike[str] | None
    checkpoint_interval: float


def is_whole(value: Any, least: int) -> bool:
    """Whether `value` is an int (of Python or NumPy) ≥ `least`; a bool is not."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


class Whole(Interval):  # type: ignore[misc]
    """scikit-learn's constraint for a range of ints, but it refuses True and False."""

    def __init__(self, left: int | None, right: int | None = None) -> None:
        super().__init__(Integral, left, right, closed="left" if right is None else "right")

    def is_satisfied_by(self, val: Any) -> bool:
        return not isinstance(val, bool) and bool(super().is_satisfied_by(val))


PARAMETERS: dict[str, list[Any]] = {
    "n_components": [Whole(1), None],  # SNMF replaces "auto" by a number before this check
    "tol": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Whole(0)],
    "progress_bar": ["boolean"],
    "random_state": ["random_state", np.random.Generator],
    "sparsity": [Interval(Real, 0, None, closed="left")],
    "verbose": ["verbose"],
    "solver": [StrOptions(set(UPDATES))],
    "accelerate": ["boolean"],
    "init": [StrOptions({*STARTS, "custom"})],
    "n_init": [Whole(1)],
    "fit_intercept": ["boolean"],
    "n_nonzero_features": [Whole(1), Interval(RealNotInt, 0, 1, closed="right"), None],
    "positive_components": ["boolean"],
    "scale": ["boolean", "array-like"],
    "backend": [str, Backend],  # `choose` checks the names
    "device": [object],
    "missing_values": ["nan", None],
    "locality": [Interval(Real, 0, 2**20, closed="both")],
    "checkpoint": [str, PathLike, None],
    "checkpoint_interval": [Interval(Real, 0, None, closed="left")],
    "warm_start": ["boolean"],
    "n_jobs": [Whole(1), Whole(None, -1), None],
}


def check_options(
    n_components: int | None, parameters: Mapping[str, Any], caller: str = "SNMF"
) -> Options:
    """Return the parameters of a fit as `Options`; raise ValueError if one is invalid."""
    options = Options(n_components, **parameters)
    values = {f.name: getattr(options, f.name) for f in fields(Options)}
    validate_parameter_constraints(PARAMETERS, values, caller_name=caller)
    if options.locality and options.missing_values is not None:
        raise ValueError(
            "locality needs distances, which rows with missing values do not have. Set "
            "locality=0, or impute the missing values."
        )
    if options.fit_intercept and options.locality:
        raise ValueError(
            "fit_intercept and locality do not go together; got both. Set fit_intercept=False, or "
            "leave locality out."
        )
    if isinstance(options.random_state, np.random.Generator):
        return replace(options, random_state=check_random_state(options.random_state))
    return options


def check_nonzero_features(most: float | None, n_features: int) -> None:
    """Raise ValueError if components are to have more nonzero entries than X has columns."""
    if is_whole(most, n_features + 1):
        raise ValueError(
            f"n_nonzero_features must be at most the number of features, {n_features}; got {most}. "
            "None is for any number, and a float for a share of them."
        )


def check_random_state(random_state: Any) -> np.random.RandomState:
    """As in scikit-learn, but NumPy's Generator is accepted too: both draw from one stream."""
    if isinstance(random_state, np.random.Generator):
        return np.random.RandomState(random_state.bit_generator)
    return of_scikit_learn(random_state)  # type: ignore[no-any-return]


def number_of_components(
    n_components: int | None,
    shape: tuple[int, int],
    weights: np.ndarray | None,
    W: Any = None,
    H: Any = None,
) -> int:
    """Return the number of components.

    It is `n_components` if that is given, else the number in H or W. Without these it is the
    number of rows with a weight above zero, or the number of columns if that is smaller.
    """
    if n_components is not None:
        return int(n_components)
    for A, axis in ((H, 0), (W, 1)):
        if A is not None and len(np.shape(A)) == 2:
            return int(np.shape(A)[axis])
    return min(shape[0] if weights is None else int(np.count_nonzero(weights)), shape[1])


def check_fixed(fixed: Any) -> None:
    """Raise ValueError if `fixed` is invalid for every shape of X."""
    if not (fixed is None or (isinstance(fixed, str) and fixed == "W") or is_whole(fixed, 1)):
        raise ValueError(
            f"fixed must be None, 'W', or from 1 to n_components, as an int; got {fixed!r}"
        )


def check_start(
    options: Options, W: Any, H: Any, fixed: Any, shape: tuple[int, int], k: int, source: Backend
) -> tuple[np.ndarray | None, np.ndarray | None]:
    given = W is not None or H is not None
    if fixed is None and given != (options.init == "custom"):
        raise ValueError(
            "init='custom' and a start go together: pass W, H or both with it, and neither "
            f"without it; got init={options.init!r} and {'a start' if given else 'no start'}"
        )
    if options.locality and fixed is not None:
        raise ValueError(
            "locality goes with no fixed part; got both. Set locality=0, or leave fixed out."
        )
    if options.fit_intercept and fixed == "W":
        raise ValueError(
            "fixed='W' goes with no intercept; got both. Set fit_intercept=False, or leave fixed "
            "out."
        )
    rows_of_h = (k,) if fixed is None else _check_fixed(options, W, H, fixed, k)
    W = check_factor(W, "W", [(shape[0], k)], source)
    H = check_factor(H, "H", [(m, shape[1]) for m in rows_of_h], source)
    if W is not None and W.min() < 0:
        raise ValueError(f"W must be nonnegative; its smallest entry is {W.min():g}")
    return W, H


def _check_fixed(options: Options, W: Any, H: Any, fixed: Any, k: int) -> tuple[int, ...]:
    """Return the numbers of rows that the given H may have."""
    if fixed == "W":
        if W is None or H is not None:
            raise ValueError(
                "fixed='W' needs W, and no H; got "
                f"{'no W' if W is None else 'both'}. Pass W=…, and leave H out."
            )
        return (k,)
    if not is_whole(fixed, 1) or fixed > k:
        raise ValueError(f"fixed must be None, 'W', or from 1 to n_components={k}; got {fixed!r}")
    if H is None or W is not None:
        raise ValueError(
            f"fixed={fixed} needs an H whose first rows are kept, and no W; got "
            f"{'no H' if H is None else 'both'}. Pass H=…, and leave W out."
        )
    return (k,) if options.init == "custom" else (int(fixed), k)


def check_factor(
    A: Any, name: str, shapes: list[tuple[int, int]], source: Backend
) -> np.ndarray | None:
    if A is None:
        return None
    theirs = owner(A)
    if theirs.home != source.home:
        raise ValueError(
            f"{name} must be an array of the library and the device of X, {source.place}; "
            f"got one of {theirs.place}. Convert {name} first."
        )
    factor: np.ndarray = check_array(theirs.to_host(A), dtype="float64", input_name=name)
    if factor.shape not in shapes:
        words = " or ".join(map(str, shapes))
        raise ValueError(f"{name} must have shape {words}; got {factor.shape}")
    return factor


def check_intercept(
    intercept: Any, options: Options, H: np.ndarray | None, n_features: int, source: Backend
) -> np.ndarray | None:
    """Return a given intercept as a vector of the host; raise ValueError if it is invalid."""
    if intercept is None:
        return None
    if not options.fit_intercept or H is None:
        raise ValueError(
            "intercept is where a fit with a given H starts; pass it with H=… and "
            "fit_intercept=True, or leave it out"
        )
    if tuple(np.shape(intercept)) != (n_features,):
        raise ValueError(
            f"intercept must have shape ({n_features},); got {tuple(np.shape(intercept))}"
        )
    theirs = owner(intercept)
    row = theirs.asarray(intercept)[None, :]
    factor = check_factor(row, "intercept", [(1, n_features)], source)
    assert factor is not None
    vector: np.ndarray = factor[0]
    return vector


def _vector(A: Any, name: str) -> np.ndarray:
    """Return an array of any library as one of finite numbers on the host."""
    theirs = owner(A)
    host = theirs.to_host(theirs.asarray(A))
    vector: np.ndarray = check_array(host, ensure_2d=False, dtype="float64", input_name=name)
    return vector


def check_scale(scale: Any, n_features: int) -> np.ndarray | bool:
    """Return `scale` as a bool or as a vector of the host; raise ValueError if it is invalid."""
    if isinstance(scale, bool | np.bool_):
        return bool(scale)
    vector = _vector(scale, "scale")
    if vector.shape != (n_features,):
        raise ValueError(
            f"scale must be True, False, or an array of shape ({n_features},); got the shape "
            f"{vector.shape}"
        )
    if vector.min() <= 0:
        raise ValueError(
            f"scale must be above zero for every column; its smallest entry is {vector.min():g}. "
            "Set 1 for a column that is to stay as it is."
        )
    return vector


def check_weights(
    sample_weight: Any, n_samples: int, may_be_zero: bool = False
) -> tuple[np.ndarray | None, int]:
    """Check sample weights, and scale them so that the largest is about 1.

    Returns
    -------
    weights : ndarray of shape (n, 1) or None
        The weights divided by 2 ** exponent; None if `sample_weight` is None.
    exponent : int
        An even number.

    Raises
    ------
    ValueError
        If a weight is negative, or the shape is wrong, or all are zero while `may_be_zero` is
        false.
    """
    if sample_weight is None:
        return None, 0
    D = _vector(sample_weight, "sample_weight")
    if D.shape != (n_samples,):
        raise ValueError(f"sample_weight must have shape ({n_samples},); got {D.shape}")
    if D.min() < 0:
        raise ValueError(f"sample_weight must be nonnegative; its smallest entry is {D.min():g}")
    if not D.any():
        if may_be_zero:
            return D[:, None], 0
        raise ValueError("sample_weight must not be zero for every row")
    exponent = math.frexp(D.max())[1]
    exponent += exponent % 2  # so that the root of the scale is a power of two as well
    return np.ldexp(D, -exponent)[:, None], exponent
