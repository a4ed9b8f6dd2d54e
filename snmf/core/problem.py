"""The class `Problem`: one fit, from its arguments to the start, the loop and the final factors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from snmf.core import intercept as _intercept
from snmf.core import locality, nnls, wide
from snmf.core import missing as _missing
from snmf.core import start as _init
from snmf.core.canonical import Canonical, given_weights, of_prototypes, of_unit_rows
from snmf.core.limits import Limits
from snmf.core.options import UPDATES, Options, chosen, l1_at_scale, l1_of, limits_of
from snmf.core.solve import Alternation, Point, Run, steps_per_pass
from snmf.core.solvers import solver
from snmf.storage.rows import Rows, RowWise, Scale, check_range, measure


@dataclass(frozen=True)
class Problem:
    """One fit: its data, its options, and what follows from them.

    X is multiplied by 2 ** -exponent during the fit, if its squares would overflow or vanish. "At
    the scale of the fit" means after this.

    Parameters
    ----------
    rows : Rows of shape (n, p)
        The rows of X with a sample weight above zero. The fit uses only these.
    options : Options
        The parameters of the fit.
    n_components : int
        The number of components k.
    W, H : ndarrays or None
        The given factors, to start from or to keep. W has the same rows as `rows`.
    fixed : "W", int or None
        Which part of them is kept: W, or the first rows of H.
    sample_weight : ndarray of shape (n, 1) or None
        The sample weights, all above zero.
    everything : (Rows, ndarray or None) or None
        All rows of X and of the given W. None if no row has a sample weight of zero, or if the
        caller wants no W. The rows of weight zero get their W at the end.
    intercept : ndarray of shape (p,) or None
        The given intercept, to start from. None is the mean of X.
    """

    rows: Rows
    options: Options
    n_components: int
    W: np.ndarray | None
    H: np.ndarray | None
    fixed: Any
    sample_weight: np.ndarray | None
    everything: tuple[Rows, np.ndarray | None] | None = None
    intercept: np.ndarray | None = None

    @cached_property
    def weights(self) -> RowWise | None:
        return None if self.sample_weight is None else self.rows.split(self.sample_weight)

    @cached_property
    def scale(self) -> Scale:
        """The scale of X; missing values count as zero."""
        return measure(self.rows, self.weights, self.options.missing_values is not None)

    @cached_property
    def total(self) -> float:
        """The sum of the sample weights."""
        return len(self.rows) if self.sample_weight is None else float(self.sample_weight.sum())

    @property
    def rms(self) -> float:
        """The root mean square norm of the rows, less their mean if there is an intercept.

        It is at the scale of the fit.
        """
        return float((self.square / self.total) ** 0.5)

    @property
    def square(self) -> float:
        """‖X‖² at the scale of the fit; with an intercept that of X less its mean."""
        return self._moments[1] if self.options.fit_intercept else self.scale.square

    @cached_property
    def _moments(self) -> tuple[np.ndarray, float]:
        """The mean row of X, and ‖X‖² of X less its mean, at the scale of the fit.

        They are over the observed entries.
        """
        rows = self.scaled if self.seen is None else self.scaled.filled(self.seen.means)
        return _intercept.moments(rows, self.weights, self.total)

    @property
    def level(self) -> float:
        """‖mean of the rows‖ divided by `rms`, if there is an intercept; else 0."""
        if not (self.options.fit_intercept and self.rms):
            return 0.0
        return float(np.linalg.norm(self._moments[0])) / self.rms

    @property
    def mean_share(self) -> float:
        """‖mean of the rows‖ divided by their root mean square norm; missing values count as 0."""
        rms = (self.scale.square / self.total) ** 0.5
        return self.scale.sum / self.total / rms if rms else 1.0

    def mass(self, found: Canonical) -> float:
        """Return Σ w ‖h‖ / Σ ‖x‖ of the result; 0 with locality, where H has no unit norm.

        The root mean square stands for the mean of ‖x‖.
        """
        if self.options.locality or not self.rms:
            return 0.0
        return float(np.ldexp(found.total, -self.scale.exponent)) / (self.rms * self.total)

    @property
    def l1(self) -> float:
        return l1_of(self.options.sparsity, self.rms)

    @property
    def _l1_of_rows(self) -> float:
        """The λ of the objective; with locality, where W has no unit, it is λ times rms."""
        return self.l1 * self.rms if self.options.locality else self.l1

    @property
    def penalty(self) -> float:
        """The λ at the scale of X."""
        return l1_at_scale(self.l1, self.scale.exponent)

    @cached_property
    def scaled(self) -> Rows:
        return self.rows.scaled(self.scale.exponent)

    @cached_property
    def seen(self) -> _missing.Observed | None:
        """Which entries of X are observed; None if X may not have missing values."""
        if self.options.missing_values is None:
            return None
        return _missing.observed(self.scaled, self.weights)

    @property
    def fixed_rows(self) -> int:
        """The number of rows of H that are kept."""
        return 0 if self.fixed in (None, "W") else int(self.fixed)

    @cached_property
    def kept(self) -> np.ndarray | None:
        """The rows of H that are kept, at unit norm; None if there are none."""
        if self.H is None or not self.fixed_rows:
            return None
        return _init.unit_rows(self.H[: self.fixed_rows])[0]

    def fitted(
        self, recall: Callable[[Callable[[], np.ndarray]], np.ndarray]
    ) -> tuple[Rows, Callable[[np.ndarray], np.ndarray]]:
        """Return the rows for the passes, and a function from the H found to the H of X.

        For wide data the passes run on coordinates (`snmf.core.wide`). `recall` gets the function
        that makes them, and returns them, perhaps from a checkpoint.
        """
        at_liberty = self.H is None and self.seen is None and not self.limits.by_entry
        if at_liberty and wide.pays(self.scaled):
            return wide.over(self.scaled, recall(partial(wide.coordinates, self.scaled)))
        return self.scaled, lambda H: H

    def split(self, H: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Split the H of the loop into the components and the intercept, if there is one."""
        return (H[:-1], H[-1]) if self.options.fit_intercept else (H, None)

    def solver(self, intercept: np.ndarray | None = None) -> nnls.Solver:
        """Return the function that computes the exact W of some rows of X."""
        missing, exponent = self.options.missing_values is not None, self.scale.exponent
        return solver(
            self.options.locality, self.rms, exponent, missing=missing, intercept=intercept
        )

    @property
    def given(self) -> np.ndarray | None:
        """The given H at the scale of the fit, if it has all k rows and no W was given."""
        if self.W is not None or self.H is None or len(self.H) < self.n_components:
            return None
        H = self.limits.of_entries(self.H, self.fixed_rows)
        return _init.prototypes(H, self.scale) if self.options.locality else _init.unit_rows(H)[0]

    def exact(self, H: np.ndarray, intercept: np.ndarray | None = None) -> Point:
        """Return the point of H, which is at the scale of the fit, and its exact W.

        W is that for the intercept, if the fit has one; without an `intercept`, for the first one.
        """
        rows = self.rows if self.options.locality else self.scaled
        H = H.astype(rows.dtype)  # as it is written in the end, and known to that precision
        if self.options.fit_intercept and intercept is None:
            intercept = self._first_intercept
        solve = self.solver(intercept)
        W, *_ = nnls.exact_weights(rows, H, self._l1_of_rows, solve=solve)
        return self.alternation(self.scaled).start(W, H)

    @property
    def _first_intercept(self) -> np.ndarray:
        if self.intercept is None:
            return self._moments[0]
        scaled: np.ndarray = np.ldexp(self.intercept, -self.scale.exponent)
        return scaled

    @property
    def nothing_free(self) -> bool:
        """Whether all of H is kept, and there is no intercept: the result is the exact W."""
        return self.fixed_rows == self.n_components and not self.options.fit_intercept

    def run_of_given(self) -> Run:
        """Return the result for `nothing_free`, without a loop."""
        assert self.given is not None
        point = self.exact(self.given)
        reason = "all of H is fixed: the exact W for it is the answer"
        return Run(point.H, [point.loss], True, reason)

    def begin(self, alternation: Alternation, rng: np.random.RandomState) -> Point:
        """Return the first point of the loop."""
        if (H := self.given) is None:
            return alternation.start(*self._start(alternation.rows, rng))
        point = self.exact(H)
        return alternation.start(self._lifted(point), H) if self._lifts else point

    def _start(self, fitted: Rows, rng: np.random.RandomState) -> _init.Start:
        """Return the start: W block by block, and H or None."""
        if self.W is not None:
            if self.options.locality and self.H is not None:
                return fitted.split(_init.memberships(self.W)), _init.prototypes(self.H, self.scale)
            return _init.custom(fitted, self.W, self.H, self.scale.exponent)
        complete = fitted if self.seen is None else fitted.filled(self.seen.means)
        start = partial(_init.made_by(self.options.init, self.options.locality), complete)
        if self.kept is None:
            W, H = start(self.n_components, rng, self.sample_weight)
            return W, None if self.options.locality else H  # there H has a scale, and W has none
        rest, _ = start(self.n_components - len(self.kept), rng, self.sample_weight)
        point = self.exact(self.kept)
        return _init.beside(fitted, self._lifted(point) if self._lifts else point.W, rest), None

    @property
    def _lifts(self) -> bool:
        """Whether the start lifts zeros of W, which the multiplicative W-step cannot change."""
        return self.update == "multiplicative" and self.scale.square > 0

    def _lifted(self, point: Point) -> RowWise:
        """Return the W of a point with its zeros lifted a little."""
        room = 0.5 * self.rms**2 * (_init.RISE[0] * point.loss + _init.RISE[1])
        lift = partial(_init.lifted, self.rows.backend, room, self._l1_of_rows)
        return self.alternation(self.scaled).each_row(lift, point)

    @cached_property
    def limits(self) -> Limits:
        """What the rows of H may be; with locality their norm is free."""
        options, p = self.options, self.rows.shape[1]
        ball = bool(self.l1 and not options.locality and self.fixed != "W")
        return limits_of(options.n_nonzero_features, p, options.positive_components, ball=ball)

    @property
    def update(self) -> str:
        """The W-step of the solver."""
        return UPDATES[chosen(self.options.solver, self.options.positive_components)]

    def alternation(self, fitted: Rows) -> Alternation:
        """Return the `Alternation` that makes the passes over these rows."""
        options, square, k = self.options, self.square, self.n_components
        update = "kept" if self.fixed == "W" else self.update
        of_steps = "multiplicative" if options.locality else update
        steps = steps_per_pass(of_steps, self.rows.shape[1], k) if options.accelerate else 1
        beside = None if self.sample_weight is None else fitted.split(self.sample_weight)
        l1 = 0.0 if self.fixed == "W" else self._l1_of_rows
        if options.locality:
            mu = options.locality
            return locality.Local(
                fitted, square, l1, update, steps, beside, limits=self.limits,
                mu=mu, total=self.total,
            )  # fmt: skip
        given = (fitted, square, l1, update, steps, beside, self.kept, self.limits)
        incomplete: dict[str, Any] = {} if self.seen is None else {"means": self.seen.means}
        if options.fit_intercept:
            whole = fitted is self.scaled  # else these are coordinates of wide data
            mean, _ = self._moments if whole else _intercept.moments(fitted, beside, self.total)
            shifted = _intercept.ShiftedIncomplete if incomplete else _intercept.Shifted
            return shifted(*given, mean=mean, total=self.total, **incomplete)
        return _missing.Incomplete(*given, **incomplete) if incomplete else Alternation(*given)

    def components(self, H: np.ndarray) -> np.ndarray:
        """Return H as in the result: rows of unit norm, or prototypes at the scale of X."""
        H, _ = self.split(H)
        return np.ldexp(H, self.scale.exponent) if self.options.locality else _init.unit_rows(H)[0]

    def better(self, run: Run) -> Run:
        """Return the run, or the given H if that has a lower objective.

        The loop begins a little above the objective of the given H, since the start lifts W. It
        may end before it is below that again.
        """
        first, last = run.loss_curve[0], run.loss_curve[-1]
        far_below = last <= (first - _init.RISE[1]) / (1 + _init.RISE[0])
        if self.given is None or not self._lifts or far_below:
            return run
        given = self.exact(self.given)
        H, intercept = self.split(run.H)
        H = H if self.options.locality else _init.unit_rows(H)[0]
        if last <= given.loss or self.exact(H, intercept).loss <= given.loss:
            return run
        return run._replace(H=given.H, reason=f"{run.reason}; the given H was better and is kept")

    def canonical(self, H: np.ndarray, W: RowWise | None = None) -> Canonical:
        """Return the canonical form of H, with this W, or the exact W of all rows of X."""
        keep_order = self.options.init == "custom" or self.fixed is not None or W is not None
        if self.options.locality:
            solved = partial(nnls.exact_weights, l1=self._l1_of_rows, solve=self.solver())
            of_rows = partial(solved, self.rows, weights=self.weights)
            found = of_prototypes(self.rows, H, self.scale, of_rows, keep_order=keep_order)
            at_scale = np.ldexp(found.H, -self.scale.exponent)
            return self._with_everything(found, lambda rows, _: solved(rows, at_scale))
        H, intercept = self.split(H)
        if intercept is not None:
            intercept = self._written(intercept)
        H, norms = _init.unit_rows(H)
        exact = partial(self._exact, norms, intercept)
        if W is not None:
            kept = self.rows.split(np.concatenate(list(self.rows.to_host(W))))
            return of_unit_rows(
                self.rows, H, self.scale, self.penalty,
                partial(given_weights, self.rows, kept, norms, self.scale, self.weights),
                keep_order=True, fixed=0,
            )  # fmt: skip
        found = of_unit_rows(
            self.rows, H, self.scale, self.penalty,
            exact(self.rows, self.W, self.weights),
            keep_order=keep_order, fixed=self.fixed_rows,
        )._replace(intercept=intercept)  # fmt: skip
        return self._with_everything(
            found,
            lambda rows, W: exact(rows, W)(found.H, self.penalty, self.scale.exponent),
        )

    def _written(self, intercept: np.ndarray) -> np.ndarray:
        """Return the intercept at the scale of X, with the precision of the result."""
        exponent = self.scale.exponent
        check_range(self.rows.dtype, float(np.max(np.abs(intercept))), exponent)
        written: np.ndarray = np.ldexp(intercept, exponent).astype(self.rows.dtype)
        return written.astype("float64")

    def _with_everything(self, found: Canonical, exact: Callable[..., Any]) -> Canonical:
        if self.everything is None:
            return found
        return found._replace(W=exact(*self.everything)[0])

    def _exact(
        self,
        norms: np.ndarray,
        intercept: np.ndarray | None,
        rows: Rows,
        W: np.ndarray | None,
        weights: RowWise | None = None,
    ) -> Callable[..., Any]:
        """Return a function of H, λ and an exponent that computes the W of these rows.

        `norms` are the norms of the rows of H before they got unit norm; a fixed W is multiplied
        by them.
        """
        if self.fixed != "W":
            solve = self.solver(intercept)
            return partial(nnls.exact_weights, rows, weights=weights, solve=solve)
        assert self.W is not None
        assert W is not None
        given = rows.split(_init.bounded(W, self.W, norms, self.scale.exponent, rows.dtype))
        return partial(given_weights, rows, given, norms, self.scale, weights)
