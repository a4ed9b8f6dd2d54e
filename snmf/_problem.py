"""What a fit is asked: the rows, the numbers of its objective, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from snmf import _init, _local, _missing, _nnls, _wide
from snmf._canonical import Canonical, given_weights, of_prototypes, of_unit_rows
from snmf._options import ALL_ZERO, UPDATES, Options
from snmf._rows import Rows, RowWise, Scale, measure
from snmf._solve import Alternation, steps_per_pass


@dataclass(frozen=True)
class Problem:
    """One fit.

    Parameters
    ----------
    rows : Rows of shape (n, p)
        Those of X.
    options : Options
    n_components : int
    W, H : ndarrays or None
        What was given to start from, or to stay.
    fixed : "W", int or None
        What of them stays.
    sample_weight : ndarray of shape (n, 1) or None
    """

    rows: Rows
    options: Options
    n_components: int
    W: np.ndarray | None
    H: np.ndarray | None
    fixed: Any
    sample_weight: np.ndarray | None

    @cached_property
    def weights(self) -> RowWise | None:
        return None if self.sample_weight is None else self.rows.split(self.sample_weight)

    @cached_property
    def scale(self) -> Scale:
        """That of X; what is missing counts as zero."""
        missing = self.options.missing_values is not None
        zeros = np.zeros(self.rows.shape[1]) if missing else None
        return measure(self.rows.filled(zeros), self.weights)

    @cached_property
    def total(self) -> float:
        """The sum of the weights of the rows."""
        return len(self.rows) if self.sample_weight is None else float(self.sample_weight.sum())

    @property
    def rms(self) -> float:
        """Of the rows, at the scale of the fit: X times 2 ** -exponent, as what follows is."""
        return float((self.scale.square / self.total) ** 0.5)

    @property
    def l1(self) -> float:
        return float(min(self.options.sparsity, ALL_ZERO) * self.rms)

    @cached_property
    def scaled(self) -> Rows:
        return self.rows.scaled(self.scale.exponent)

    @cached_property
    def seen(self) -> _missing.Observed | None:
        """How much of X there is, where it may be incomplete."""
        return None if self.options.missing_values is None else _missing.observed(self.scaled)

    @property
    def fixed_rows(self) -> int:
        """How many rows of H stay."""
        return 0 if self.fixed in (None, "W") else int(self.fixed)

    @cached_property
    def kept(self) -> np.ndarray | None:
        """The rows of H that stay."""
        if self.H is None or not self.fixed_rows:
            return None
        return _init.unit_rows(self.H[: self.fixed_rows])[0]

    def fitted(
        self, recall: Callable[[Callable[[], np.ndarray]], np.ndarray]
    ) -> tuple[Rows, Callable[[np.ndarray], np.ndarray]]:
        """The rows that the fit passes over, and the map from the H that it finds to that of X.

        `recall` is asked for the coordinates of wide data, and given what makes them.
        """
        if self.H is None and self.seen is None and _wide.pays(self.scaled):
            return _wide.over(self.scaled, recall(partial(_wide.coordinates, self.scaled)))
        return self.scaled, lambda H: H

    def start(self, fitted: Rows, rng: np.random.RandomState) -> _init.Start:
        """W, row-wise, and H or None."""
        complete = fitted if self.seen is None else fitted.filled(self.seen.means)
        k, lift, D = self.n_components, self.options.solver == "mu", self.sample_weight
        if self.W is not None or (self.H is not None and len(self.H) == k):
            return _init.custom(complete, self.W, self.H, self.l1, self.scale.exponent, lift)
        start = _init.STARTS[self.options.init]
        if self.kept is None:
            return start(complete, k, rng, D)
        rest, _ = start(complete, k - len(self.kept), rng, D)
        return _init.beside(complete, self.kept, rest, self.l1, lift), None

    def alternation(self, fitted: Rows) -> Alternation:
        """The passes over rows."""
        options, square, k = self.options, self.scale.square, self.n_components
        update = "kept" if self.fixed == "W" else UPDATES[options.solver]
        of_steps = "multiplicative" if options.locality else update
        steps = steps_per_pass(of_steps, self.rows.shape[1], k) if options.accelerate else 1
        beside = None if self.sample_weight is None else fitted.split(self.sample_weight)
        l1 = 0.0 if self.fixed == "W" else self.l1
        if options.locality:
            mu, l1 = options.locality, self.l1 * self.rms
            return _local.Local(fitted, square, l1, update, steps, beside, mu=mu, total=self.total)
        kept = None if self.kept is None else fitted.backend.algebra.asarray(self.kept)
        given = (fitted, square, l1, update, steps, beside, kept)
        if self.seen is not None:
            return _missing.Incomplete(*given, means=self.seen.means)
        return Alternation(*given)

    def components(self, H: np.ndarray) -> np.ndarray:
        """H as a caller sees it."""
        return np.ldexp(H, self.scale.exponent) if self.options.locality else _init.unit_rows(H)[0]

    def canonical(self, H: np.ndarray) -> Canonical:
        """What an H that was found comes to."""
        keep_order = self.options.init == "custom" or self.fixed is not None
        if self.options.locality:
            mu, mean_square = self.options.locality, self.rms**2
            exact = partial(
                _nnls.exact_weights, self.scaled, l1=self.l1 * self.rms, weights=self.weights,
                solve=partial(_local.best_weights, mu=mu, mean_square=mean_square),
            )  # fmt: skip
            return of_prototypes(self.rows, H, self.scale, exact, keep_order=keep_order)
        H, norms = _init.unit_rows(H)
        if self.fixed == "W":
            W, _ = _init.custom(self.rows, self.W, None, self.l1, self.scale.exponent, lift=False)
            exact = partial(given_weights, self.rows, W, norms, self.scale, self.weights)
        else:
            solve = _nnls.best_weights if self.seen is None else _missing.best_weights
            exact = partial(_nnls.exact_weights, self.rows, weights=self.weights, solve=solve)
        penalty = float(np.ldexp(self.l1, self.scale.exponent))
        return of_unit_rows(
            self.rows, H, self.scale, penalty, exact, keep_order=keep_order, fixed=self.fixed_rows
        )
