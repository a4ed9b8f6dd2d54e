"""How near a fit comes to the SVD bound, what sparsity does, and noloox beside it.

tox -e benchmark -- quality [--data FILE]
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
from data import bound, load, parser, relative_error, spectrum
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score

import snmf


def timed(fit: Any) -> tuple[Any, float]:
    began = time.perf_counter()
    result = fit()
    return result, time.perf_counter() - began


def factors(X: np.ndarray, k: int, **parameters: Any) -> tuple[Any, Any]:
    result = snmf.factorize(X, k, random_state=0, progress_bar=False, **parameters)
    return result.W, result.H


def noloox(X: np.ndarray, k: int) -> tuple[Any, Any]:
    from noloox.decomposition import SNMF

    model = SNMF(k, progress_bar=False, random_state=0)
    W = model.fit_transform(X)
    return W, model.components_


def agreement(labels: np.ndarray, W: np.ndarray) -> float:
    return float(normalized_mutual_info_score(labels, W.argmax(axis=1)))


def table_of_errors(X: np.ndarray, labels: np.ndarray, k: int) -> None:
    squares = spectrum(X)
    rows = [
        ("snmf, default", k, lambda: factors(X, k)),
        ("snmf, hals", k, lambda: factors(X, k, solver="hals")),
        ("snmf, the paper's (accelerate=False)", k, lambda: factors(X, k, accelerate=False)),
        ("snmf, svd start", 50, lambda: factors(X, 50, init="svd")),
        ("noloox, first call", k, lambda: noloox(X, k)),
        ("noloox, second call", k, lambda: noloox(X, k)),
    ]
    print(f"{X.shape[0]} x {X.shape[1]} {X.dtype}")
    print(f"{'':38} {'k':>3} {'error':>9} {'bound':>9} {'above':>10} {'seconds':>8} {'NMI':>6}")
    for name, rank, fit in rows:
        try:
            (W, H), seconds = timed(fit)
        except ImportError as error:
            print(f"{name:38} left out ({error})")
            continue
        error, best = relative_error(X, W, H), bound(squares, rank)
        nmi = f"{agreement(labels, np.asarray(W)):.3f}"
        print(
            f"{name:38} {rank:3} {error:9.5f} {best:9.5f} {100 * (error / best - 1):9.5f}% "
            f"{seconds:8.2f} {nmi:>6}"
        )


def table_of_sparsities(X: np.ndarray, labels: np.ndarray, k: int, seeds: int = 5) -> None:
    print(f"\nsparsity, hals, means of {seeds} seeds")
    for sparsity in (0.0, 0.05, 0.1, 0.2):
        zeros, nmi = [], []
        for seed in range(seeds):
            W = snmf.fit_transform(
                X, k, solver="hals", sparsity=sparsity, random_state=seed, progress_bar=False
            )
            zeros.append(np.mean(W == 0))
            nmi.append(agreement(labels, W))
        print(f"  {sparsity:4}   zeros {np.mean(zeros):5.1%}   NMI {np.mean(nmi):.3f}")
    nmi = [
        normalized_mutual_info_score(labels, KMeans(k, n_init=1, random_state=seed).fit_predict(X))
        for seed in range(seeds)
    ]
    print(f"  k-means                NMI {np.mean(nmi):.3f}")


def main() -> None:
    X, labels = load(parser(__doc__).parse_args())
    k = len(np.unique(labels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table_of_errors(X, labels, k)
        table_of_sparsities(X, labels, k)


if __name__ == "__main__":
    main()
