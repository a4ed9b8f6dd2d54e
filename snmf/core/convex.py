"""The class `ConvexProblem`: one fit of convex NMF, from the start to the final factors.

`Space` holds X and the candidates as the fit needs them. `linear` and `through` make one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse

from snmf.core import nnls
from snmf.core import start as _init
from snmf.core.canonical import Canonical, of_unit_rows
from snmf.core.hull import Hull, row_norms, solver, squared_error
from snmf.core.kernels import Kernel, KernelRows, check_gram, scale_of
from snmf.core.problem import Problem
from snmf.core.solve import Alternation, steps_per_pass
from snmf.storage.rows import Rows, RowWise, Scale, measure, times_power_of_two

Array = Any


class Space(NamedTuple):
    """X and the candidates, in the space of a kernel.

    Attributes
    ----------
    rows : Rows or KernelRows
        The rows that take part in the fit: those of X, or those of its kernel matrix.
    everything : Rows, KernelRows or None
        The same for all rows, if some do not take part and need a W.
    scale : Scale
        The scale of `rows`.
    gram : ndarray of shape (m, m)
        K = Y Yᵀ, or the kernel of the candidates, at the scale of the fit.
    candidates : array or sparse matrix of shape (m, p) or None
        Y, in float64, at the scale of the fit. None if `rows` are those of a kernel matrix.
    """

    rows: Any
    everything: Any
    scale: Scale
    gram: np.ndarray
    candidates: Any = None


def linear(rows: Rows, everything: Rows | None, weights: RowWise | None, points: Any) -> Space:
    """Return the `Space` of these candidates, (m, p), with the linear kernel."""
    scale = measure(rows, weights)
    Y = times_power_of_two(points.astype("float64"), -scale.exponent)
    gram = Y @ Y.T
    return Space(rows, everything, scale, gram.toarray() if issparse(gram) else gram, Y)


def through(
    kernel: Kernel, rows: Rows, everything: Rows | None, weights: RowWise | None, points: Any
) -> Space:
    """Return the `Space` of these candidates with another kernel.

    With a precomputed kernel the candidates are the indices of columns of X.
    """
    measure(rows, weights)  # X must be finite
    scale = scale_of(rows, kernel, weights)
    if kernel.metric == "precomputed":
        here = np.searchsorted(rows.places(np.arange(len(rows))), points)
        gram = kernel.between(rows.take(here), points)
    else:
        wide = points.astype("float64")
        gram = kernel.between(wide, wide)
    gram = check_gram(gram.astype("float64"), float(np.finfo(rows.dtype).eps))
    others = None if everything is None else KernelRows(everything, kernel, points)
    return Space(KernelRows(rows, kernel, points).kept_in_memory(), others, scale, gram)


@dataclass(frozen=True)
class ConvexProblem(Problem):
    """One fit of ``X ≈ W C Y``.

    In the space of the blocks H is C Y with the linear kernel, and C with another: see
    `snmf.core.hull`.

    Parameters
    ----------
    space : Space
        X and the candidates. `rows` and `everything` are those of the space.
    C : ndarray of shape (k, m), default=None
        The given C, to start from. It needs a W.
    """

    space: Any = None
    C: np.ndarray | None = None

    @cached_property
    def scale(self) -> Scale:
        scale: Scale = self.space.scale
        return scale

    @property
    def candidates(self) -> Any:
        return self.space.candidates

    @cached_property
    def hull(self) -> Hull:
        """The alternation that makes the passes."""
        p, k = self.rows.shape[1], self.n_components
        steps = steps_per_pass(self.update, p, k) if self.options.accelerate else 1
        given = (self.scaled, self.square, self.l1, self.update, steps, self.weights)
        return Hull(*given, gram=self.space.gram, candidates=self.candidates)

    def alternation(self, fitted: Rows) -> Alternation:
        return self.hull

    def _start(self, fitted: Rows, rng: np.random.RandomState) -> _init.Start:
        if self.W is None:
            return self._in_order(fitted, super()._start(fitted, rng)[0]), None
        if self.C is None:
            return super()._start(fitted, rng)[0], None
        norms = row_norms(self.C, self.space.gram)
        W = self.W * norms
        if not np.max(W) < _init.TOO_FAR * (self.scale.longest or 1.0):
            raise ValueError(
                "W and C are too large a start for X: W C Y must be about as large as X. Scale W "
                "or C."
            )
        return fitted.split(W), self.C / np.where(norms > 0, norms, 1.0)[:, None]

    def _in_order(self, fitted: Rows, W: RowWise) -> RowWise:
        """Return W with its columns in the order of decreasing norm.

        Steps go from component to component. A start may name the same ones in any order, and the
        result should not depend on that.
        """
        ops = fitted.backend
        _, (squares,) = fitted.map_sum(lambda _, W: (None, (ops.xp.sum(W * W, axis=0),)), W)
        order = ops.asarray(np.argsort(-squares, kind="stable"))
        sorted_columns: RowWise = fitted.each(lambda part: ops.xp.take(part, order, axis=1), W)
        return sorted_columns

    def components(self, H: np.ndarray) -> np.ndarray:
        """Return the rows of H = C Y at unit norm, or those of C with another kernel."""
        return self._with_unit_norm(H)[0]

    def _with_unit_norm(self, C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.candidates is not None:
            return _init.unit_rows(self.hull.components(C))
        norms = row_norms(C, self.space.gram)
        return C / np.where(norms > 0, norms, 1.0)[:, None], norms

    def combined(self, C: np.ndarray) -> tuple[Canonical, np.ndarray]:
        """Return the canonical form for C, and the C of its components at the scale of X."""
        H, norms = self._with_unit_norm(C)
        found = of_unit_rows(
            self.rows, H, self.scale, self.penalty,
            partial(self._weights_for, self.rows, self.weights),
            keep_order=self.options.init == "custom", fixed=0,
        )  # fmt: skip
        C = C / np.where(norms > 0, norms, 1.0)[:, None]
        C = np.where(np.any(found.H != 0, axis=1)[:, None], C[found.order], 0.0)
        if self.candidates is None:
            S, T, _ = self.hull.sums(found.W)
            square = squared_error(self.square, S, T, C, self.products(C))
            found = found._replace(error=square**0.5)
        found = self._with_everything(
            found,
            lambda rows, _: self._weights_for(
                rows, None, found.H, self.penalty, self.scale.exponent
            ),
        )
        return found, np.ldexp(C, -self.scale.exponent)

    def products(self, C: np.ndarray) -> np.ndarray:
        """Return B = C K Cᵀ, without negative eigenvalues from the rounding of K."""
        values, V = np.linalg.eigh(C @ self.space.gram @ C.T)
        alive = np.any(C, axis=1)  # a component that died has products of exactly 0
        B: np.ndarray = (V * np.maximum(values, 0)) @ V.T * np.outer(alive, alive)
        return B

    def _weights_for(
        self, rows: Rows, weights: Any, H: np.ndarray, penalty: float, exponent: int
    ) -> tuple[Any, float, np.ndarray, float]:
        """Return what `snmf.core.nnls.exact_weights` returns, for C Y or for C."""
        solve = None
        if self.candidates is None:
            solve = solver(H, self.products(H.astype("float64")))
        return nnls.exact_weights(rows, H, penalty, exponent, weights, solve)
