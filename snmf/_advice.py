"""The warnings after a fit: each says what is wrong with the result, and what to change.

Every function `of_…` yields messages; `warn` gives them as a ConvergenceWarning.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from snmf.core.missing import Observed

CANCELLING = 100.0  # times ‖X‖_F: weights of a component this large are cancelled by others
HEAVY = 5.0  # times the rows of X: weights that are together this large are not identified
FAR = 1e5  # times the differences between rows: the start takes smaller ones for rounding
FEW_ROWS = 100  # with fewer, standard deviations are known to worse than 10 %
CENTRED = 0.02  # times the root mean square of X: a mean below this share counts as zero


def of_iterations(
    n_iter: int, max_iter: int, tol: float, *, converged: bool, reason: str
) -> Iterator[str]:
    """Warn if the fit has not converged."""
    if tol > 0 and not converged and n_iter == max_iter:
        last = f", and the last fell by more than tol={tol:g}" if n_iter else ""
        yield f"The fit has not converged: {reason}{last}. Raise max_iter, or tol."


def of_number(n_components: int, n_rows: int, n_features: int, penalized: bool) -> Iterator[str]:
    """Warn if so many components fit any data of this shape exactly.

    With n_rows components every row of X is a component itself. With n_features + 1 components
    that surround zero, every row is a nonnegative combination of them, unless weights are
    penalized. In both cases W and H do not describe X.
    """
    enough = n_rows if penalized else min(n_rows, n_features + 1)
    if n_components > enough:
        yield (
            f"n_components={n_components} is more than X can tell apart: {enough} components fit "
            f"any {n_rows} rows of {n_features} columns exactly. Lower n_components"
            + (", or set sparsity." if enough < n_rows else ".")
        )


def of_mean(share: float) -> Iterator[str]:
    """Warn if X is centred: `share` is the norm of its mean over the root mean square norm."""
    if share < CENTRED:
        yield (
            "X is centred. Few components of centred data can be found without an intercept: set "
            "fit_intercept=True, or do not centre X."
        )


def of_level(level: float, dtype: str) -> Iterator[str]:
    """Warn if the mean is so large that a fit with an intercept loses the digits of the rest.

    `level` is the norm of the mean over the root mean square norm of the rows less it.
    """
    eps = float(np.finfo(dtype).eps)
    if min(FAR, eps**-0.5) < level < 1 / eps:  # beyond that all rows are alike
        narrow = dtype == "float32"
        yield (
            f"The mean of X is {level:.2g} times as large as the differences between its rows, and "
            f"{dtype} has too few digits for both. Subtract a row near the mean from X first"
            + (", or give X in float64." if narrow else ".")
        )


def of_scale(n_rows: int) -> Iterator[str]:
    """Warn if a stream takes standard deviations from few rows."""
    if n_rows < FEW_ROWS:
        yield (
            f"scale=True takes the standard deviations of the first batch, which has {n_rows} "
            "rows. Give a larger first batch, or give scale as an array."
        )


def of_choice(n_components: int) -> Iterator[str]:
    """Warn if n_components="auto" found that the data support no number, which is 0 here."""
    if n_components == 0:
        yield (
            "No number of components is supported: held-out entries are predicted no better with "
            "components than without. n_components='auto' takes 1. Set n_components to a number."
        )


def of_runs(n_components: int, unfinished: int, n_runs: int) -> Iterator[str]:
    """Warn if runs of `consensus` have not converged."""
    if unfinished:
        yield (
            f"{unfinished} of {n_runs} runs with n_components={n_components} have not converged. "
            "Raise max_iter, or tol."
        )


def of_density(n_components: int, left: int, threshold: float) -> Iterator[str]:
    """Warn if `consensus` drops so many components of the runs that fewer than k are left."""
    yield (
        f"density_threshold={threshold:g} leaves {left} components of the runs, for "
        f"n_components={n_components}: the runs do not agree. The {n_components} nearest to others "
        "are kept. Lower n_components, or raise density_threshold."
    )


def of_components(
    shares: np.ndarray, mass: float, init: str, sparsity: float, largest_sparsity: float
) -> Iterator[str]:
    """Warn if components died, or if their weights cancel each other.

    `shares` holds ‖w_j‖ / ‖X‖_F for every component j, and `mass` is Σ w ‖h‖ / Σ ‖x‖ over all.
    `largest_sparsity` is the least sparsity that makes all weights zero.
    """
    dead = int(np.sum(shares == 0))
    if dead == len(shares) and init == "custom":
        yield "All weights are zero. Start from positive weights, or lower sparsity."
    elif dead == len(shares):
        yield (
            f"All weights are zero: sparsity={sparsity:g} is too large. For this X any "
            f"value from {largest_sparsity:.3g} on does that. Lower sparsity; useful values are "
            "mostly below a third of this."
        )
    elif dead:
        yield (
            f"{dead} of {len(shares)} components died: their weights are all zero. Lower "
            "n_components or sparsity, or try another init."
        )
    if np.max(shares) > CANCELLING:
        yield (
            "Components are nearly collinear, so that their weights cancel: one component times "
            f"its weights is {np.max(shares):.3g} times as large as X. Lower n_components, or set "
            "sparsity."
        )
    elif mass > HEAVY:
        yield (
            f"Components cancel each other: the parts w h are together {mass:.3g} times as large "
            "as X. Other components would fit X as well. Raise sparsity, or lower n_components."
        )


def of_missing(seen: Observed) -> Iterator[str]:
    """Warn of rows and columns without an observed entry."""
    if not seen.rows.all():
        yield f"{np.sum(~seen.rows)} rows of X have no observed entry: their weights are zero."
    if not seen.columns.all():
        yield (f"{np.sum(~seen.columns)} columns of X have no observed entry: H is zero there.")


def warn(messages: Iterable[str]) -> None:
    """Give each message as a ConvergenceWarning, at the user's line that called snmf."""
    level = _callers_level()
    for message in messages:
        warnings.warn(message, ConvergenceWarning, stacklevel=level)


def _callers_level() -> int:
    """Return the stack level, for `warnings.warn`, of the first frame outside snmf and sklearn."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and str(frame.f_globals.get("__name__")).split(".")[0] in (
        "snmf",
        "sklearn",
    ):
        frame, level = frame.f_back, level + 1
    return level
