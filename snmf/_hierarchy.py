"""The scikit-learn estimator `HierarchicalSNMF`: components of components."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted

from snmf._arguments import check_random_state, check_weights, is_whole
from snmf._data import Data, features_of
from snmf._diagnostics import Diagnostics
from snmf._estimator import SNMF
from snmf._progress import bars_named
from snmf.backends import adapter, choose, owner
from snmf.core import hierarchy, updates
from snmf.core.features import largest
from snmf.core.intercept import moments
from snmf.core.limits import Limits, h_step
from snmf.core.options import limits_of
from snmf.core.start import unit_rows
from snmf.storage.rows import measure, taking_part, working_dtype

Array = Any

OF_A_FIT = ("n_iter_", "loss_curve_", "reconstruction_err_")
NOT_HERE = ("missing_values", "locality", "checkpoint")


# scikit-learn has no types
class HierarchicalSNMF(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Components at several levels: each level factorizes the components of the level before.

    The first level is X ≈ W H. At the next, H ≈ V H' with V ≥ 0: every component is a nonnegative
    mixture of fewer, coarser components, its parents, and X ≈ (W V) H'. This is done again and
    again, so that the components form a tree [1]_. Components count by the norm of their weights.

    Parameters
    ----------
    n_components : sequence of int, default=(20, 5)
        The number of components of each level. The numbers fall. An int is one level.
    estimator : SNMF, default=None
        The parameters of the fits. None is ``SNMF()``. Its `n_components` and `random_state` are
        not used. An intercept and a scale are those of the first level. Missing values, locality
        and a checkpoint are refused.
    polish : int, default=10
        Makes this many steps at each level but the first, which fit the level to X rather than to
        the components of the level before. No step raises the error of its level.
    random_state : int, RandomState or Generator instance, or None, default=None
        Seeds the starts of all levels.

    Attributes
    ----------
    levels_ : list of SNMF
        For each level a model of X, whose components are those of the level. Each can
        `transform`, and is what `snmf.plots` and ``diagnostics`` take.
    mixtures_ : list of ndarray
        For each level but the first V, of shape (components of the level before, of this level):
        the weights of the parents of each component.
    errors_ : ndarray of shape (n_levels,)
        ‖X − W V … H‖ for each level, where W is that of the first level. X is less the intercept
        and divided by the scale, if there are any.
    components_ : array of shape (n_components[0], n_features)
        The components of the first level.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        The feature names, if X had names that are all strings.

    References
    ----------
    .. [1] O. Shafran, A. Geiger, M. Geva, "Decomposing MLP activations into interpretable features
       via semi-nonnegative matrix factorization", 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from snmf import HierarchicalSNMF
    >>> X = np.random.default_rng(0).normal(size=(200, 12))
    >>> model = HierarchicalSNMF((6, 2), random_state=0).fit(X)
    >>> [level.components_.shape for level in model.levels_], model.mixtures_[0].shape
    ([(6, 12), (2, 12)], (6, 2))
    >>> model.transform(X, level=1).shape
    (200, 2)
    """

    def __init__(
        self,
        n_components: Sequence[int] | int = (20, 5),
        estimator: SNMF | None = None,
        *,
        polish: int = 10,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.estimator = estimator
        self.polish = polish
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> HierarchicalSNMF:
        """Learn the components of all levels.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The data, of any sign.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts, ≥ 0. None is 1 for each.

        Returns
        -------
        self : HierarchicalSNMF
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter or X is invalid. The estimator is then unchanged.
        """
        self._fit(X, sample_weight)
        return self

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> Array:
        """Learn the components of all levels, and return the weights of the first.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The data, of any sign.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts, ≥ 0. None is 1 for each.

        Returns
        -------
        W : array of shape (n_samples, n_components[0])
            The weights, ≥ 0.
        """
        return self._fit(X, sample_weight)

    def transform(self, X: Any, *, level: int = 0) -> Array:
        """Compute the exact weights of X for the components of a level.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The data.
        level : int, default=0
            The level, from 0; −1 is the last, which has the fewest components.

        Returns
        -------
        W : array of shape (n_samples, n_components[level])
            The minimiser of ``½‖X − W H‖² + λ Σ W`` over ``W ≥ 0``, with the λ of the first level.
        """
        return self._at(level).transform(X)

    def inverse_transform(self, X: Any, *, level: int = 0) -> Array:
        """Reconstruct data from the weights of a level.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components[level])
            The weights W.
        level : int, default=0
            Their level.

        Returns
        -------
        X_original : array of shape (n_samples, n_features)
            W H, at the level and the scale of X.
        """
        return self._at(level).inverse_transform(X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None, *, level: int = 0) -> float:
        """Return the share of X that a level explains, as `SNMF.score` does.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The data.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts. None is 1 for each.
        level : int, default=0
            The level, from 0; −1 is the last.

        Returns
        -------
        score : float
            At most 1. It is 1 for X = 0.
        """
        return self._at(level).score(X, sample_weight=sample_weight)

    def diagnostics(self, X: Any, sample_weight: Any = None, *, level: int = 0) -> Diagnostics:
        """Say of each component of a level how much it explains, as `SNMF.diagnostics` does.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The data.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts. None is 1 for each.
        level : int, default=0
            The level, from 0; −1 is the last.

        Returns
        -------
        Diagnostics
            The share explained, usage, mass and largest cosine of each component.
        """
        return self._at(level).diagnostics(X, sample_weight)

    def parents(self, level: int) -> np.ndarray:
        """Return the main parent of each component of a level: that of the largest weight.

        Parameters
        ----------
        level : int
            A level but the last, from 0.

        Returns
        -------
        parents : ndarray of shape (n_components[level],)
            Indices of components of the next level; −1 for a component without weight.
        """
        check_is_fitted(self)
        if not is_whole(level, 0) or level >= len(self.mixtures_):
            raise ValueError(f"level must be from 0 to {len(self.mixtures_) - 1}; got {level!r}")
        V = self.mixtures_[level]
        found: np.ndarray = np.where(V.max(axis=1) > 0, V.argmax(axis=1), -1)
        return found

    def tree(self, *, n_features: int = 3) -> str:
        """Return the components as a tree in text: each under its main parent.

        Parameters
        ----------
        n_features : int, default=3
            How many features to name for each component, those with the largest entries.

        Returns
        -------
        text : str
            A line for each component: its index at its level, the weight of the parent, and
            features with the sign of their entries. Components without a parent are left out.
        """
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)

        def features(level: int, j: int) -> str:
            h = self.levels_[level]._components_on_host()[j]
            return ", ".join(
                f"{'−' if h[i] < 0 else '+'}{i if names is None else names[i]}"
                for i in largest(h, n_features)
            )

        def lines(level: int, j: int, weight: float | None, depth: int) -> list[str]:
            at = "" if weight is None else f" ({weight:.2f})"
            found = [f"{'    ' * depth}{j}{at}: {features(level, j)}"]
            if level:
                V = self.mixtures_[level - 1]
                children = np.flatnonzero(self.parents(level - 1) == j)
                for child in children[np.argsort(-V[children, j], kind="stable")]:
                    found += lines(level - 1, int(child), float(V[child, j]), depth + 1)
            return found

        last = len(self.levels_) - 1
        top = range(self.levels_[last].n_components_)
        return "\n".join(line for j in top for line in lines(last, j, None, 0))

    @property
    def components_(self) -> Array:
        """The components of the first level."""
        return self.levels_[0].components_

    @property
    def _n_features_out(self) -> int:
        return int(self.levels_[0].n_components_)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "levels_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _at(self, level: int) -> SNMF:
        check_is_fitted(self)
        if not is_whole(level, -1) or level >= len(self.levels_):
            raise ValueError(
                f"level must be from 0 to {len(self.levels_) - 1}, or -1; got {level!r}"
            )
        found: SNMF = self.levels_[level]
        return found

    def _fit(self, X: Any, sample_weight: Any) -> Array:
        numbers, given = self._checked()
        seeds = check_random_state(self.random_state).randint(2**31 - 1, size=len(numbers))
        levels = [
            clone(given).set_params(n_components=k, random_state=int(seed))
            for k, seed in zip(numbers, seeds, strict=True)
        ]
        first = levels[0]
        data = Data.of(X).sized()
        with _bars_of(0):
            W = first._fit(X, None, data, sample_weight=sample_weight).W
        sums = _Sums.of(first, data, W, sample_weight)
        H = first._components_on_host().astype("float64")
        mixtures, errors = [], [sums.error(H)]
        limits = limits_of(
            given.n_nonzero_features, H.shape[1], given.positive_components, ball=False
        )
        for number, level in enumerate(levels[1:], start=1):
            level.set_params(fit_intercept=False, scale=False, backend="numpy", device=None)
            counts = np.diagonal(sums.T) if np.any(sums.T) else None
            with _bars_of(number):
                V = level.fit_transform(H, sample_weight=counts).astype("float64")
            V, H = sums.polished(V, level.components_.astype("float64"), self.polish, limits)
            sums = sums.at_parents(V)
            mixtures.append(V)
            errors.append(sums.error(H))
            levels[number] = _with_components(first, H)
        seen = features_of(first)
        self.__dict__.pop("feature_names_in_", None)
        self.__dict__.update(seen, levels_=levels, mixtures_=mixtures, errors_=np.array(errors))
        return W

    def _checked(self) -> tuple[list[int], SNMF]:
        """Return the numbers of components and the estimator; raise if one is invalid."""
        numbers = np.atleast_1d(self.n_components).tolist()
        whole = len(numbers) > 0 and all(is_whole(k, 1) for k in numbers)
        if not whole or any(a <= b for a, b in pairwise(numbers)):
            raise ValueError(
                "n_components must be numbers that fall from level to level, such as (50, 10); "
                f"got {self.n_components!r}"
            )
        if not is_whole(self.polish, 0):
            raise ValueError(f"polish must be a whole number from 0; got {self.polish!r}")
        given = SNMF() if self.estimator is None else self.estimator
        if not isinstance(given, SNMF):
            raise TypeError(f"estimator must be an SNMF or None; got {type(given).__name__}")
        for name in NOT_HERE:
            if getattr(given, name) not in (None, 0):
                raise ValueError(f"estimator must have no {name}; got {getattr(given, name)!r}")
        return [int(k) for k in numbers], given


def _bars_of(level: int) -> Any:
    return bars_named(f"HierarchicalSNMF, level {level}")


class _Sums(NamedTuple):
    """What the errors of all levels need to know of X and W, times powers of 2 ** -exponent."""

    S: np.ndarray  # Wᵀ X, less the intercept
    T: np.ndarray  # Wᵀ W
    square: float  # ‖X‖², less the intercept
    exponent: int

    @classmethod
    def of(cls, model: SNMF, data: Data, W: Array, sample_weight: Any) -> _Sums:
        W = owner(W).to_host(W)
        ops = choose(model.backend, data.owner, model.device)
        D, of_weights = check_weights(sample_weight, data.shape[0])
        with ops.active(), data.threaded(ops, model.n_jobs) as every:
            rows, D, members = taking_part(every, D, missing=False)
            rows = rows.divided(model._on_host("scale_"))
            weights = None if D is None else rows.split(D)
            scale = measure(rows, weights)
            W = np.ldexp(W if members is None else W[members], -scale.exponent)
            scaled, sums = rows.scaled(scale.exponent), partial(updates.sums_of_block, ops)
            _, (S, T, columns) = scaled.map_sum(
                lambda *block: (None, sums(*block)), rows.split(W), weights
            )
            square, intercept = scale.square, model._on_host("intercept_")
            if intercept is not None:
                m = np.ldexp(intercept.astype("float64"), -scale.exponent)
                total = len(rows) if D is None else float(D.sum())
                mean, square = moments(scaled, weights, total)
                square += total * float(np.sum((mean - m) ** 2))
                S = S - np.outer(columns, m)
        return cls(S, T, square, scale.exponent + of_weights // 2)

    def error(self, H: np.ndarray) -> float:
        """Return ‖X − W H‖."""
        squared = updates.squared_error(adapter("numpy"), self.square, self.S, self.T, H)
        return float(np.ldexp(squared**0.5, self.exponent))

    def at_parents(self, V: np.ndarray) -> _Sums:
        """Return the sums for the weights W V in place of W."""
        S, T = hierarchy.sums_at_parents(self.S, self.T, V)
        return self._replace(S=S, T=T)

    def polished(
        self, V: np.ndarray, H: np.ndarray, steps: int, limits: Limits
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return V and H after these steps, with rows of H at unit norm."""
        rtol = len(H) * float(np.finfo("float64").eps)
        ops = adapter("numpy")
        step = partial(h_step, ops, limits, partial(updates.least_squares, ops, rtol=rtol))
        V, H = hierarchy.polished(self.S, self.T, V, H, steps, step)
        H, norms = unit_rows(H)
        return V * norms, H


def _with_components(model: SNMF, H: np.ndarray) -> SNMF:
    """Return the model with other components, and without what was said of its own."""
    other = copy(model)
    other.__dict__ = {name: value for name, value in vars(model).items() if name not in OF_A_FIT}
    ours = owner(model.components_)
    other.components_ = ours.asarray(H, working_dtype(model.components_.dtype))
    other.n_components_ = other.n_components = len(H)
    return other
