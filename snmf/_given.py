"""What a caller gives beside X, checked: a start, what of it stays, weights of the rows."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_array

from snmf._options import Options
from snmf.backends import Backend, owner


def number_of_components(
    n_components: int | None,
    shape: tuple[int, int],
    weights: np.ndarray | None,
    W: Any = None,
    H: Any = None,
) -> int:
    """That which is named; else that of a given H or W; else the number of rows or of columns.

    Of the rows those count whose weights are above zero.
    """
    if n_components is not None:
        return int(n_components)
    for A, axis in ((H, 0), (W, 1)):
        if A is not None and len(np.shape(A)) == 2:
            return int(np.shape(A)[axis])
    return min(shape[0] if weights is None else int(np.count_nonzero(weights)), shape[1])


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
        raise ValueError("locality goes with no fixed part: set locality=0, or leave fixed out")
    rows_of_h = (k,) if fixed is None else _check_fixed(options, W, H, fixed, k)
    W = check_factor(W, "W", [(shape[0], k)], source)
    H = check_factor(H, "H", [(m, shape[1]) for m in rows_of_h], source)
    if W is not None and W.min() < 0:
        raise ValueError(f"W must be nonnegative; its smallest entry is {W.min():g}")
    return W, H


def _check_fixed(options: Options, W: Any, H: Any, fixed: Any, k: int) -> tuple[int, ...]:
    """How many rows the given H may have."""
    if fixed == "W":
        if W is None or H is not None:
            raise ValueError("fixed='W' asks for the W that stays, and for no H")
        return (k,)
    if not isinstance(fixed, Integral) or not 1 <= int(fixed) <= k:
        raise ValueError(f"fixed must be None, 'W', or from 1 to n_components={k}; got {fixed!r}")
    if H is None or W is not None:
        raise ValueError(f"fixed={fixed} asks for an H whose first rows stay, and for no W")
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
            f"got one of {theirs.place}"
        )
    factor: np.ndarray = check_array(theirs.to_host(A), dtype="float64", input_name=name)
    if factor.shape not in shapes:
        words = " or ".join(map(str, shapes))
        raise ValueError(f"{name} must have shape {words}; got {factor.shape}")
    return factor


def check_weights(sample_weight: Any, n_samples: int) -> tuple[np.ndarray | None, int]:
    """The weights over 2 ** exponent, (n, 1), so that the largest is about 1; None as it is."""
    if sample_weight is None:
        return None, 0
    D = owner(sample_weight).to_host(owner(sample_weight).asarray(sample_weight))
    D = check_array(D, ensure_2d=False, dtype="float64", input_name="sample_weight")
    if D.shape != (n_samples,):
        raise ValueError(f"sample_weight must have shape ({n_samples},); got {D.shape}")
    if D.min() < 0:
        raise ValueError(f"sample_weight must be nonnegative; its smallest entry is {D.min():g}")
    if not D.any():
        raise ValueError("sample_weight must not be zero for every row")
    exponent = math.frexp(D.max())[1]
    exponent += exponent % 2  # so that its root is a power of two as well
    return np.ldexp(D, -exponent)[:, None], exponent
