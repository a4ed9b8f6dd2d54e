"""Random small fits over all parameters, held to what must be true of every fit.

No time is measured: it looks for faults. Every failure is a line that ends in the command which
makes that case again; at the end they are counted by kind, and the exit code is 1 if there are any.
A case depends on its number and on --seed alone.

    python -m fuzz --cases 100000
    python -m fuzz --seed 3 --case 1234
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from common import small_blocks
from sklearn.exceptions import ConvergenceWarning

import snmf

STARTS = ["random", "svd", "kmeans", "varimax", "skewness"]
MOST = 12  # rows, columns, components
REFUSALS = (  # what may be said of finite data and a start, all parameters being right
    "X is too large: its norm",
    "W and H are too large a start for X",
    "H is too large a start for X",
    "W is too large a start",
)
ROUNDINGS = 64  # of the working precision, that a number may be off, over its largest terms
RIDGE = 2e-8  # what W may be off, over its sum, where H Hᵀ is singular and W one of many
KKT = 1e-8  # and what its gradient may be, over the norm of the row
FAR = 1e9  # the condition of H Hᵀ from which on it counts as that
SLOW = 20.0  # seconds, for a case of a few milliseconds

Failure = tuple[str, str]  # kind, and what was seen


# Cases


@dataclass(frozen=True)
class Case:
    """One fit, and what is to be compared with it."""

    kind: str  # of the data
    X: np.ndarray  # dense, of the dtype that it comes in
    container: str
    options: dict[str, Any]  # of factorize
    given: dict[str, Any]  # W, H, fixed
    weights: np.ndarray | None
    blocks: bool  # whether blocks are of a few rows
    relation: str
    rng: np.random.Generator = field(repr=False)

    @property
    def k(self) -> int:
        n, p = self.X.shape
        counted = n if self.weights is None else int(np.count_nonzero(self.weights))
        return int(self.options["n_components"] or min(counted, p))

    @property
    def missing(self) -> bool:
        return "missing_values" in self.options

    @property
    def locality(self) -> float:
        return float(self.options.get("locality", 0.0))

    def __str__(self) -> str:
        given = {name: getattr(value, "shape", value) for name, value in self.given.items()}
        n, p = self.X.shape
        words = [self.kind, f"{n}×{p} {self.X.dtype}", self.container, str(self.options)]
        words += [str(given)] * bool(given) + ["weights"] * (self.weights is not None)
        return ", ".join(words)


def drawn(seed: int, number: int) -> Case:
    rng = np.random.default_rng([seed, number])
    n, p, k = (int(size) for size in np.ceil(MOST * rng.random(3) ** 2))
    kind = str(rng.choice(list(KINDS)))
    X = KINDS[kind](rng, n, p, k)
    options: dict[str, Any] = {
        "n_components": None if rng.random() < 0.05 else k,
        "tol": float(rng.choice([0, 0, 1e-5, 1e-2])),
        "max_iter": int(rng.choice([0, 1, 1, 1, 2, 2, 3, 3, 5, 30])),
        "sparsity": float(rng.choice([0, 0, 0, 0, 1e-3, 0.01, 0.1, 0.5, 1, 3, 1e40])),
        "solver": str(rng.choice(["mu", "hals"])),
        "accelerate": bool(rng.random() < 0.7),
        "init": str(rng.choice(STARTS, p=[0.5, 0.2, 0.05, 0.1, 0.15])),
        "n_init": 2 if rng.random() < 0.1 else 1,
        "random_state": int(rng.integers(1000)),
    }
    dtype = rng.choice(["float64", "float64", "float32", "float16", "int8"])
    if dtype == "int8":
        X = np.clip(np.round(3 * X), -100, 100)
    with np.errstate(over="ignore"):
        X = X.astype(dtype)
    X[~np.isfinite(X)] = 1  # what float16 does not hold
    holes = rng.random() < 0.15 and X.dtype.kind == "f"
    if holes:
        X = with_holes(rng, X)
        options["missing_values"] = np.nan
    given = {} if rng.random() < 0.6 else start(rng, X, options)
    if rng.random() < 0.15 and not holes and "fixed" not in given:
        options["locality"] = float(rng.choice([0.1, 2, 100]))
    alone = not options.get("locality") and given.get("fixed") != "W"
    if alone and rng.random() < 0.2:
        options["fit_intercept"] = True
    if rng.random() < 0.15:
        options["positive_components"] = True
    if rng.random() < 0.15:
        most = int(rng.integers(1, p + 1))
        options["n_nonzero_features"] = most if rng.random() < 0.7 else most / p
    weights = drawn_weights(rng, n) if rng.random() < 0.25 else None
    container = str(rng.choice(list(CONTAINERS), p=[0.64, 0.2, 0.1, 0.04, 0.02]))
    relation = str(rng.choice(list(RELATIONS))) if rng.random() < 0.6 else ""
    if not given and rng.random() < 0.1:
        options["scale"], relation = True, ""  # the relations are those of X as it is
    return Case(
        kind, X, container, options, given, weights, bool(rng.random() < 0.3), relation, rng
    )


def planted(rng: np.random.Generator, n: int, p: int, k: int) -> np.ndarray:
    W = rng.exponential(size=(n, k)) * (rng.random((n, k)) < 0.5)
    return W @ rng.standard_normal((k, p))


def near_dependent(rng: np.random.Generator, n: int, p: int, k: int) -> np.ndarray:
    X = rng.standard_normal((n, 1)) @ rng.standard_normal((1, p))
    return X + 10.0 ** -rng.integers(1, 16) * rng.standard_normal((n, p))


def decades(rng: np.random.Generator, n: int, p: int, k: int) -> np.ndarray:
    X = rng.standard_normal((n, p))
    span = float(rng.choice([5, 30, 150]))
    return X * 10.0 ** rng.uniform(-span, span, (n, 1) if rng.random() < 0.5 else (1, p))


def scaled(exponent: float, rng: np.random.Generator, n: int, p: int, k: int) -> np.ndarray:
    return planted(rng, n, p, k) * 10.0 ** rng.uniform(min(0, exponent), max(0, exponent))


def repeated(rng: np.random.Generator, n: int, p: int, k: int) -> np.ndarray:
    return rng.standard_normal((k, p))[rng.integers(k, size=n)]


KINDS = {
    "Gaussian": lambda rng, n, p, k: rng.standard_normal((n, p)),
    "planted": planted,
    "planted with noise": lambda rng, *size: planted(rng, *size) + 0.1 * rng.standard_normal(),
    "constant": lambda rng, n, p, k: np.full((n, p), rng.standard_normal()),
    "zero": lambda rng, n, p, k: np.zeros((n, p)),
    "duplicate rows": repeated,
    "rank 1": lambda rng, n, p, k: planted(rng, n, p, 1),
    "huge": partial(scaled, 300.0),
    "tiny": partial(scaled, -320.0),
    "decades": decades,
    "near-dependent": near_dependent,
    "far from zero": lambda rng, n, p, k: rng.standard_normal((n, p)) + 10.0 ** rng.integers(1, 9),
    "one-hot": lambda rng, n, p, k: np.eye(p)[rng.integers(p, size=n)],
    "mostly zero": lambda rng, n, p, k: rng.standard_normal((n, p)) * (rng.random((n, p)) < 0.2),
    "opposite": lambda rng, n, p, k: np.outer(rng.choice([-1, 1], n), rng.standard_normal(p)),
}


def with_holes(rng: np.random.Generator, X: np.ndarray) -> np.ndarray:
    X = X.copy()
    X[rng.random(X.shape) < rng.choice([0.1, 0.5, 0.9])] = np.nan
    if rng.random() < 0.2:
        X[rng.integers(len(X))] = np.nan
    if rng.random() < 0.2:
        X[:, rng.integers(X.shape[1])] = np.nan
    return X


def start(rng: np.random.Generator, X: np.ndarray, options: dict[str, Any]) -> dict[str, Any]:
    """A start, or a part that stays; the options are made to go with it."""
    (n, p), k = X.shape, int(options["n_components"] or min(X.shape))
    options["n_components"] = k
    size = np.nanmax(np.abs(X.astype("float64")), initial=0.0) if rng.random() < 0.8 else 1.0
    if not np.isfinite(size) or not size:
        size = 1.0
    W = rng.random((n, k)) * (rng.random((n, k)) < rng.choice([0.3, 1])) * size
    H = rng.standard_normal((k, p)) * 10.0 ** float(rng.choice([0, 0, 0, 5, -5]))
    if k > 1 and rng.random() < 0.2:
        H[1] = H[0] * rng.choice([0, 1, 1 + 1e-7])
    what = str(rng.choice(["W", "H", "both", "fixed W", "fixed H", "fixed H and rest"]))
    if what in ("W", "H", "both"):
        options["init"] = "custom"
        return {name: A for name, A in (("W", W), ("H", H)) if what in (name, "both")}
    if what == "fixed W":
        return {"W": W, "fixed": "W"}
    m = int(rng.integers(1, k + 1))
    if what == "fixed H":
        return {"H": H[:m], "fixed": m}
    options["init"] = "custom"
    return {"H": H, "fixed": m}


def drawn_weights(rng: np.random.Generator, n: int) -> np.ndarray:
    weights = rng.integers(0, 3, n) if rng.random() < 0.5 else rng.exponential(size=n)
    weights = weights * 10.0 ** float(rng.choice([0, 0, 0, 100, -100]))
    return weights if weights.any() else np.ones(n)


class Slices:
    """A store that knows slices of rows only."""

    def __init__(self, X: Any) -> None:
        self._X, self.shape, self.dtype = X, X.shape, X.dtype

    def __getitem__(self, rows: slice) -> Any:
        return self._X[rows]


def sparse(X: np.ndarray) -> Any:
    return sp.csr_array(X.astype("float32") if X.dtype == "float16" else X)


CONTAINERS = {
    "array": np.asarray,
    "CSR": sparse,
    "DataFrame": pd.DataFrame,
    "slices": Slices,
    "sparse slices": lambda X: Slices(sparse(X)),
}


# What must be true of a fit


def fitted(case: Case, **changes: Any) -> snmf.Factorization:
    """The fit of a case, or of one that differs in something."""
    case = replace(case, **changes)
    parameters = {"progress_bar": False, **case.options, **case.given}
    with small_blocks() if case.blocks else nullcontext():
        return snmf.factorize(
            CONTAINERS[case.container](case.X), sample_weight=case.weights, **parameters
        )


@dataclass(frozen=True)
class Numbers:
    """A fit in float64, everything over 2 ** exponent, so that squares are numbers."""

    X: np.ndarray  # over the scale, less the intercept; 0 where it is missing
    terms: np.ndarray  # |X| + |intercept|
    whole: float  # what the objective is divided by, times 2
    known: np.ndarray
    W: np.ndarray
    H: np.ndarray
    weights: np.ndarray
    error: float
    rms: float
    l1: float
    eps: float
    least: (
        float  # the smallest number, in these units: what is lost where W is written in its dtype
    )
    digit: float  # likewise, where the error, rms and λ are written
    locality: float

    @classmethod
    def of(cls, case: Case, result: snmf.Factorization) -> Numbers:
        X = case.X.astype("float64")
        if result.scale is not None:
            X = (case.X.astype(result.W.dtype) / result.scale).astype("float64")
        known = ~np.isnan(X)
        X = np.where(known, X, 0)
        weights = np.ones(len(X)) if case.weights is None else case.weights.astype("float64")
        unit = float(weights.max())
        exponent = -int(np.frexp(np.max(np.abs(X)))[1])
        W, H = (A.astype("float64") for A in (result.W, result.H))
        l1, rms = np.ldexp(result.penalty, exponent), np.ldexp(result.rms, exponent)
        if case.locality:
            H, l1 = np.ldexp(H, exponent), l1 * rms
        else:
            W = np.ldexp(W, exponent)
        error = np.ldexp(result.error / unit**0.5, exponent)
        kind = np.finfo(result.W.dtype)
        least = np.ldexp(float(kind.smallest_subnormal), 0 if case.locality else exponent)
        X = np.ldexp(X, exponent)
        terms, whole = np.abs(X), float(weights / unit @ np.sum(X**2, axis=1))
        if result.intercept is not None:
            entries = known * weights[:, None] / unit
            mean = np.sum(entries * X, axis=0) / np.maximum(np.sum(entries, axis=0), 1e-300)
            centred = float(np.sum(entries * (X - mean) ** 2))
            whole = centred if centred > ROUNDINGS * float(kind.eps) * whole else 0.0
            intercept = np.ldexp(result.intercept.astype("float64"), exponent)
            X, terms = np.where(known, X - intercept, 0), terms + np.abs(intercept)
        return cls(
            X, terms, whole, known, W, H, weights / unit, float(error), float(rms),
            float(l1), float(kind.eps), min(float(least) / min(1.0, unit**0.5), 1.0),
            min(float(np.ldexp(5e-324, exponent)) / min(1.0, unit**0.5), 1.0), case.locality,
        )  # fmt: skip

    @property
    def residual(self) -> np.ndarray:
        return np.where(self.known, self.X - self.W @ self.H, 0)

    @property
    def size(self) -> float:
        """‖X‖ + ‖ |W| |H| ‖, the terms that cancel in an error."""
        products = np.where(self.known, np.abs(self.W) @ np.abs(self.H), 0)
        both = (self.weights @ np.sum(A**2, axis=1) for A in (self.terms, products))
        return float(sum(map(np.sqrt, both)))

    @property
    def lost(self) -> float:
        """What of the objective may be lost where W and λ are written in their dtypes."""
        k = self.W.shape[1]
        if not self.whole:
            return 0.0
        sums, digit = self.W.sum(axis=1), self.digit
        of_penalty = digit * self.weights @ sums
        if mu := self.locality:
            rms = (2 * self.rms + digit) * digit
            return float(2 * (of_penalty + mu * rms * self.weights @ (sums - 1) ** 2) / self.whole)
        of_residual = self.size * k * np.sqrt(self.weights.sum())
        of_penalty += self.least * self.l1 * k * self.weights.sum()
        return float(2 * (self.least * of_residual + of_penalty) / self.whole)

    def objective(self, l1: float) -> float:
        """Over ½‖X‖²."""
        rows = np.sum(self.residual**2, axis=1) / 2 + l1 * self.W.sum(axis=1)
        if self.locality:
            distances = np.sum((self.X[:, None] - self.H[None]) ** 2, axis=2)
            sums = self.W.sum(axis=1)
            near = np.sum(self.W * distances, axis=1) / 2
            rows += self.locality * (near + self.rms**2 * (sums - 1) ** 2)
        return float(2 * (self.weights @ rows) / self.whole) if self.whole else 0.0

    def gradients(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the objective by W, row by row, and what rounding may make of zero."""
        gradient = -self.residual @ self.H.T + self.l1
        norms = np.linalg.norm(self.H, axis=1).max(initial=0)
        sums = self.W.sum(axis=1, keepdims=True)
        terms = (np.linalg.norm(self.terms, axis=1)[:, None] + norms * sums) * norms
        mu, ridge = self.locality, 0.0
        if mu:
            distances = np.sum((self.X[:, None] - self.H[None]) ** 2, axis=2)
            gradient += mu * (distances / 2 + 2 * self.rms**2 * (sums - 1))
            terms = terms + mu * (distances + 2 * self.rms**2 * (sums + 1))
        if mu or not self.known.all() or condition(self.H) > FAR:
            ridge = RIDGE * sums * max(norms**2, 2 * mu * self.rms**2)
            ridge = ridge + KKT * np.linalg.norm(self.X, axis=1)[:, None] * norms
        inverse = float(np.finfo("float64").eps) * min(condition(self.H), FAR) ** 0.5
        lost = MOST * norms**2 * self.least + float(np.finfo("float64").tiny)
        lost = lost + self.digit * (1 + mu * (4 * self.rms + self.digit) * (sums + 1))
        return gradient, ROUNDINGS * (self.eps + inverse) * terms + ridge + lost


def condition(H: np.ndarray) -> float:
    """Of H Hᵀ, less empty rows, at unit diagonal."""
    H = H[np.any(H != 0, axis=1)]
    if not len(H):
        return 1.0
    H = H / np.max(np.abs(H), axis=1)[:, None]  # whose squares may be nothing
    s = np.linalg.svd(H / np.linalg.norm(H, axis=1)[:, None], compute_uv=False)
    return float(s[0] / s[-1]) ** 2 if len(s) == len(H) and s[-1] > 1e-100 else np.inf


def of_any_fit(case: Case, result: snmf.Factorization) -> Iterator[Failure]:
    (n, p), k, W, H = case.X.shape, case.k, result.W, result.H
    working = "float32" if case.X.dtype in ("float16", "float32") else "float64"
    if W.shape != (n, k) or H.shape != (k, p):
        yield "shape", f"W {W.shape}, H {H.shape}"
        return
    if W.dtype != working or H.dtype != working:
        yield "dtype", f"W {W.dtype}, H {H.dtype} for X {case.X.dtype}"
    if not np.isfinite(W).all() or not np.isfinite(H).all():
        yield "not finite", f"W {np.isfinite(W).all()}, H {np.isfinite(H).all()}"
        return
    if W.min() < 0:
        yield "negative weight", f"{W.min()}"
    numbers = Numbers.of(case, result)
    yield from of_norms(case, numbers)
    yield from of_limits(case, H)
    yield from of_the_curve(case, result, numbers)
    true = float(np.sqrt(numbers.weights @ np.sum(numbers.residual**2, axis=1)))
    allowed = ROUNDINGS * (numbers.eps * numbers.size + numbers.least + numbers.digit)
    squared = ROUNDINGS * np.finfo("float64").eps * numbers.size**2  # it is a sum of such terms
    if not (abs(true - numbers.error) <= allowed or abs(true**2 - numbers.error**2) <= squared):
        yield "error", f"{numbers.error} is {true} (± {allowed})"
    if case.given.get("fixed") != "W":
        yield from of_optimality(numbers)


def of_norms(case: Case, numbers: Numbers) -> Iterator[Failure]:
    if case.locality:
        return
    norms = np.linalg.norm(numbers.H, axis=1)
    wrong = (np.abs(norms - 1) > ROUNDINGS * numbers.eps) & (norms > 0)
    if wrong.any():
        yield "norm of components", f"{norms}"
    kept = len(norms) if case.given.get("fixed") == "W" else int(case.given.get("fixed") or 0)
    alive = np.arange(len(norms)) < kept
    unused = (norms > 0) & ~np.any(numbers.W > 0, axis=0) & ~alive
    written = numbers.size > numbers.least / numbers.eps  # weights are not lost for being tiny
    if unused.any() and case.weights is None and written:
        yield "component without weight", f"{np.flatnonzero(unused)}"


def of_limits(case: Case, H: np.ndarray) -> Iterator[Failure]:
    fixed = case.given.get("fixed")
    free = H[0 if fixed == "W" else int(fixed or 0) :]
    if case.options.get("positive_components") and free.min(initial=0.0) < 0:
        yield "negative entry", f"{free.min()}"
    most = case.options.get("n_nonzero_features", H.shape[1])
    most = most if isinstance(most, int) else max(1, round(most * H.shape[1]))
    if np.count_nonzero(free, axis=1).max(initial=0) > most:
        yield "nonzero entries", f"{np.count_nonzero(free, axis=1)} for {most}"


def of_the_curve(case: Case, result: snmf.Factorization, numbers: Numbers) -> Iterator[Failure]:
    curve = np.asarray(result.loss_curve)
    if len(curve) != result.n_iter + 1 or result.n_iter > case.options["max_iter"]:
        yield "length of the curve", f"{len(curve)} for {result.n_iter} iterations"
    if not np.isfinite(curve).all():
        yield "curve not finite", f"{curve}"
        return
    if np.any(np.diff(curve) > 0):
        yield "objective rises", f"{curve}"
    end = numbers.objective(0.0 if case.given.get("fixed") == "W" else numbers.l1)
    ratio = (numbers.size + numbers.least) ** 2 / numbers.whole if numbers.whole else 0.0
    terms = (1 + ratio) * (1 + case.locality)
    allowed = ROUNDINGS * numbers.eps * terms + (RIDGE if condition(numbers.H) > FAR else 0)
    allowed += numbers.lost
    if numbers.whole and not end <= curve[-1] * (1 + 1e-6) + allowed:
        yield "result above the curve", f"{end} after {curve[-1]} (+ {allowed})"


def of_optimality(numbers: Numbers) -> Iterator[Failure]:
    gradient, allowed = numbers.gradients()
    alive = np.any(numbers.H != 0, axis=1) | bool(numbers.locality)
    inside = (numbers.W > 0) & (np.abs(gradient) > allowed)
    outside = (numbers.W == 0) & (gradient < -allowed)
    wrong = (inside | outside) & alive
    if wrong.any():
        share = np.max(np.where(wrong, np.abs(gradient) / allowed, 0))
        rows = np.flatnonzero(wrong.any(axis=1))
        yield "W not optimal", f"rows {rows}: {share:.3g} times what rounding may do"


# What must be true of two fits


def like(name: str, one: Any, other: Any, allowed: float) -> Iterator[Failure]:
    """Two curves are the same as far as both go, over their first."""
    one, other = (np.asarray(A, dtype="float64") for A in (one, other))
    both = min(len(one), len(other))
    apart = float(np.max(np.abs(one[:both] - other[:both]), initial=0.0))
    if not apart <= allowed * max(1.0, float(np.abs(one[:1]).max(initial=0))):
        yield name, f"{apart:.3g} apart (± {allowed:.3g}): {one} and {other}"


def precision(case: Case) -> float:
    """What rounding may grow to in a few iterations."""
    return 1e-3 if case.X.dtype in ("float16", "float32") else 1e-7


def transformed(case: Case, result: snmf.Factorization) -> Iterator[Failure]:
    """The estimator does what the function does, and what it learned says the same of the rows."""
    model = snmf.SNMF(progress_bar=False, **case.options)
    X = CONTAINERS[case.container](case.X)
    with small_blocks() if case.blocks else nullcontext():
        W = model.fit_transform(X, sample_weight=case.weights, **case.given)
        again = model.transform(X)
        score, bic = model.score(X, sample_weight=case.weights), model.bic(X)
        back = model.inverse_transform(W)
    if not np.array_equal(W, result.W):
        yield "fit_transform is not factorize", f"{np.max(np.abs(W - result.W))}"
    if case.given.get("fixed") != "W":
        yield from same_rows("transform is not fit_transform", W, again, case)
    if not np.isfinite(score) or score > 1 or np.isnan(bic) or not np.isfinite(back).all():
        yield "score, bic or inverse_transform", f"{score}, {bic}, {np.isfinite(back).all()}"


def same_rows(name: str, W: np.ndarray, V: np.ndarray, case: Case) -> Iterator[Failure]:
    size = np.max(W, axis=1, initial=0.0).astype("float64")
    with np.errstate(over="ignore"):
        apart = np.max(np.abs(W.astype("float64") - V), axis=1)
    eps, least = (float(getattr(np.finfo(W.dtype), name)) for name in ("eps", "tiny"))
    norms = np.ones(len(W)) if case.locality else np.abs(np.nan_to_num(case.X)).max(axis=1)
    allowed = size * max(1e-7, ROUNDINGS * eps) + ROUNDINGS * eps * norms.astype("float64") + least
    if not np.all(apart <= allowed):
        rows = np.flatnonzero(~(apart <= allowed))
        yield name, f"rows {rows}: {np.max((apart / np.maximum(size, 1e-300))[rows]):.3g} of a row"


def alone(case: Case, result: snmf.Factorization) -> Iterator[Failure]:
    """A row's weights do not depend on the rows beside it."""
    if case.given.get("fixed") == "W":
        return
    model = snmf.SNMF(progress_bar=False, **case.options)
    model.fit(CONTAINERS[case.container](case.X), sample_weight=case.weights, **case.given)
    W = model.transform(CONTAINERS[case.container](case.X))
    i = int(case.rng.integers(len(W)))
    row = model.transform(CONTAINERS[case.container](case.X[i : i + 1]))
    H = model.components_.astype("float64")
    known = condition(H) * float(np.finfo("float64").eps)
    W = W[i : i + 1]
    if known > ROUNDINGS * 1e-9:  # several W are as good, to rounding
        products = [np.abs(V.astype("float64") @ H).max() for V in (W, row)]
        size = max(float(np.abs(np.nan_to_num(case.X[i])).max()), *products) or 1.0
        unit = 1.0 if case.locality else size
        W, row = (
            np.c_[V.astype("float64") @ H / size, V.sum(axis=1) / unit].astype(V.dtype)
            for V in (W, row)
        )
    yield from same_rows("a row alone", W, row, replace(case, X=case.X[i : i + 1]))


def permuted(case: Case, result: snmf.Factorization) -> Iterator[Failure]:
    """From a start that is given, the order of rows is of no account."""
    if case.options["init"] != "custom" and "fixed" not in case.given:
        return
    if case.given.get("fixed") not in (None, "W") and case.options["init"] != "custom":
        return  # the rest is drawn
    order = case.rng.permutation(len(case.X))
    given = {n: A[order] if n == "W" else A for n, A in case.given.items()}
    weights = None if case.weights is None else case.weights[order]
    other = fitted(case, X=case.X[order], given=given, weights=weights)
    yield from few("permuted rows", case, result, other)


def few(name: str, case: Case, one: Any, other: Any) -> Iterator[Failure]:
    """The curves of a few iterations, unless the last digits of X change them as much."""
    if case.options["n_init"] > 1:  # of restarts that end alike, rounding tells which is best
        ends = (result.loss_curve[-1:] for result in (one, other))
        if not list(like(name, *ends, precision(case))):
            return
    one, other = one.loss_curve[:3], other.loss_curve[:3]
    if found := list(like(name, one, other, precision(case))):
        wide = fitted(case, X=case.X.astype("float64")).loss_curve[:3]
        if next(like(name, one, wide, precision(case)), None):
            return
        for _ in range(3):
            dtype = "float64" if case.X.dtype == "float64" else "float32"  # that of the arithmetic
            noise = case.rng.choice([-1, 0, 1], case.X.shape) * float(np.finfo(dtype).eps)
            X = case.X.astype(dtype)
            near = fitted(case, X=(X * (1 + noise)).astype(dtype)).loss_curve[:3]
            if next(like(name, fitted(case, X=X).loss_curve[:3], near, precision(case)), None):
                return
    yield from found


def larger(case: Case, result: snmf.Factorization) -> Iterator[Failure]:
    """X times a power of two: W times it, and the same curve."""
    low, high = {"float64": (-900, 900), "float32": (-100, 100)}.get(str(case.X.dtype), (0, 0))
    power = int(case.rng.integers(low, high + 1))
    with np.errstate(over="ignore", under="ignore"):
        X = np.ldexp(case.X, power) if power else case.X
        back = np.ldexp(X, -power) if power else X
    if not power or not np.array_equal(back, case.X, equal_nan=True):
        return  # some of it is lost there
    given = dict(case.given)
    if "W" in given and ("H" in given or case.locality):
        if case.locality:
            return
        given["W"] = np.ldexp(given["W"], power)
    elif "H" in given and case.locality:
        given["H"] = np.ldexp(given["H"], power)
    if not all(np.isfinite(A).all() for A in given.values() if isinstance(A, np.ndarray)):
        return
    try:
        other = fitted(case, X=X, given=given)
    except ValueError as error:
        if refused(error):
            return
        raise
    yield from few("power of two", case, result, other)


def weightless(case: Case, result: snmf.Factorization) -> Iterator[Failure]:
    """A row of weight 0 is not there."""
    n, m = len(case.X), int(case.rng.integers(1, 4))
    stray = case.rng.standard_normal((m, case.X.shape[1])) * case.rng.choice([1, 100])
    with np.errstate(over="ignore"):
        stray = np.nan_to_num(stray.astype(case.X.dtype))
    given = dict(case.given)
    if "W" in given:
        given["W"] = np.vstack([given["W"], case.rng.random((m, case.k))])
    if case.options["n_components"] is None:
        return
    weights = np.ones(n) if case.weights is None else case.weights
    other = fitted(
        case, X=np.vstack([case.X, stray]), given=given, weights=np.append(weights, np.zeros(m))
    )
    yield from few("weight 0 is absence", case, result, other)


def twice(case: Case, result: snmf.Factorization) -> Iterator[Failure]:
    """A row of weight 2 is the row twice."""
    if case.options["init"] != "custom" or case.options["n_components"] is None:
        return
    counts = case.rng.integers(1, 3, len(case.X))
    again = np.repeat(np.arange(len(case.X)), counts)
    given = {n: A[again] if n == "W" else A for n, A in case.given.items()}
    one = fitted(case, weights=counts)
    other = fitted(case, X=case.X[again], given=given, weights=None)
    yield from few("weight 2 is twice", case, one, other)


def otherwise(case: Case, result: snmf.Factorization) -> Iterator[Failure]:
    """Whatever X comes in, and in whatever blocks, the fit is the same."""
    container = str(case.rng.choice(list(CONTAINERS)))
    other = fitted(case, container=container, blocks=not case.blocks)
    if case.options["init"] in ("random", "svd", "custom"):  # k-means takes sparse data otherwise
        yield from few(f"as {container}", case, result, other)


def threaded(case: Case, result: snmf.Factorization) -> Iterator[Failure]:
    """The same bits on any number of threads."""
    if case.rng.random() < 0.7:
        return  # threads take their time to begin
    one, two = (fitted(case, options={**case.options, "n_jobs": jobs}) for jobs in (1, 2))
    if not np.array_equal(one.W, two.W) or not np.array_equal(one.H, two.H):
        yield "bits on threads", f"{np.max(np.abs(one.W - two.W))}"


def streamed(case: Case, result: snmf.Factorization) -> Iterator[Failure]:
    """A fit by mini-batches has finite components of unit norm, and exact weights."""
    if case.missing:
        return
    names = ("sparsity", "solver", "init", "random_state", "n_nonzero_features",
             "positive_components")  # fmt: skip
    options = {name: case.options[name] for name in names if name in case.options}
    H = case.rng.standard_normal((case.k, case.X.shape[1])) if options["init"] == "custom" else None
    options["n_components"] = case.k
    model = snmf.MiniBatchSNMF(
        progress_bar=False, max_iter=2, tol=0, batch_size=int(case.rng.integers(1, 9)),
        forget_factor=float(case.rng.choice([0, 0.5, 1])), **options,
    )  # fmt: skip
    make, D = CONTAINERS[case.container], case.weights
    if case.rng.random() < 0.5:
        model.fit(make(case.X), sample_weight=D, H=H)
    else:
        for i in range(0, len(case.X), step := int(case.rng.integers(1, 9))):
            some = None if D is None else D[i : i + step]
            if some is None or some.any():
                model.partial_fit(make(case.X[i : i + step]), sample_weight=some, H=H)
                H = None
    W = model.transform(make(case.X))
    n_iter = case.options["max_iter"]
    stands = snmf.Factorization(
        W, model.components_, 0.0, model.rms_, model.penalty_, n_iter, np.zeros(1), True, ""
    )
    plain = replace(case, weights=None, given={}, options=options)
    if not np.isfinite(model.components_).all() or not np.isfinite(W).all() or W.min() < 0:
        yield "mini-batches: not finite", f"{model.components_}, {W}"
        return
    if not all(np.isfinite([model.loss_, model.penalty_, model.rms_, model.score(make(case.X))])):
        yield "mini-batches: loss, penalty or score", f"{model.loss_}, {model.penalty_}"
    numbers = Numbers.of(plain, stands)
    norms = np.linalg.norm(numbers.H, axis=1)
    if np.any((np.abs(norms - 1) > ROUNDINGS * numbers.eps) & (norms > 0)):
        yield "mini-batches: norm of components", f"{norms}"
    for kind, what in (*of_limits(plain, model.components_), *of_optimality(numbers)):
        yield f"mini-batches: {kind}", what


RELATIONS = {
    "transform": transformed,
    "alone": alone,
    "permuted": permuted,
    "power of two": larger,
    "weight 0": weightless,
    "weight 2": twice,
    "otherwise": otherwise,
    "threads": threaded,
    "stream": streamed,
}


# The run


def refused(error: BaseException) -> bool:
    return isinstance(error, ValueError) and str(error).startswith(REFUSALS)


def failures(case: Case) -> Iterator[Failure]:
    """All that is wrong with a case."""
    try:
        result = fitted(case)
        yield from of_any_fit(case, result)
        if case.relation:
            yield from RELATIONS[case.relation](case, result)
    except Exception as error:
        if not refused(error):
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{os.path.basename(place.filename)}:{place.lineno}"
            yield f"{type(error).__name__} in {where}", str(error).splitlines()[0][:200]


def run(seed: int, number: int) -> list[Failure]:
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        case = drawn(seed, number)
        found = [(kind, f"{what} [{case.relation}; {case}]") for kind, what in failures(case)]
    for warning in said:
        if not issubclass(warning.category, ConvergenceWarning):
            where = f"{os.path.basename(warning.filename)}:{warning.lineno}"
            kind = f"{warning.category.__name__} in {where}"
            found.append((kind, f"{str(warning.message).splitlines()[0]} [{case}]"))
    if (seconds := time.perf_counter() - began) > SLOW:
        found.append(("slow", f"{seconds:.1f} s [{case}]"))
    return found


def run_some(seed: int, numbers: range) -> list[tuple[int, list[Failure]]]:
    return [(number, found) for number in numbers if (found := run(seed, number))]


def main() -> int:
    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    words.add_argument("--cases", type=int, default=10_000)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--case", type=int, help="one case by its number")
    words.add_argument("--jobs", type=int, default=os.cpu_count(), help="default: all cores")
    words.add_argument("--tiny", action="store_true", help="a few cases, to see that it runs")
    options = words.parse_args()
    if options.case is not None:
        print(drawn(options.seed, options.case), flush=True)
        numbers = range(options.case, options.case + 1)
    else:
        numbers = range(60 if options.tiny else options.cases)
    kinds, first = Counter[str](), dict[str, int]()
    began = time.perf_counter()
    some = [numbers[i : i + 100] for i in range(0, len(numbers), 100)]
    with ProcessPoolExecutor(options.jobs) if len(some) > 1 else nullcontext() as pool:
        for part in (pool.map if pool else map)(partial(run_some, options.seed), some):
            for number, found in part:
                again = f"python -m fuzz --seed {options.seed} --case {number}"
                for kind, what in found:
                    print(f"{kind}: {what}: {again}", flush=True)
                kinds.update({kind for kind, _ in found})
                for kind, _ in found:
                    first.setdefault(kind, number)
    seconds = time.perf_counter() - began
    print(f"\n{len(numbers)} cases in {seconds:.1f} s, {kinds.total()} failures", flush=True)
    for kind, count in kinds.most_common():
        print(f"  {count:6d}  {kind}  (--case {first[kind]})")
    return 1 if kinds else 0


if __name__ == "__main__":
    sys.exit(main())
