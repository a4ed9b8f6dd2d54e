"""The data of the benchmarks: a file of embeddings and labels, or generated ones like it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np


def parser(description: str) -> argparse.ArgumentParser:
    """The arguments that every benchmark takes."""
    words = argparse.ArgumentParser(description=description)
    words.add_argument(
        "--data",
        type=Path,
        help="an .npz with embeddings (n, p) and labels (n,); generated data without it",
    )
    words.add_argument(
        "--smallest-class", type=int, default=500, help="leave out classes up to this size"
    )
    words.add_argument("--tiny", action="store_true", help="generated data of a tiny size")
    return words


def load(arguments: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Rows of unit norm in float32, and their classes."""
    if arguments.tiny:
        return generated(300, 64, 3)
    if arguments.data is None:
        X, labels = generated(20_000, 384, 13)
    else:
        with np.load(arguments.data) as file:
            X, labels = file["embeddings"].astype("float32"), file["labels"]
    names, counts = np.unique(labels, return_counts=True)
    kept = np.isin(labels, names[counts > arguments.smallest_class])
    return X[kept], labels[kept]


def generated(n: int, p: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows around class centres, with a spectrum that falls as that of sentence embeddings."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    spectrum = np.arange(1, p + 1) ** -0.4
    turn = np.linalg.qr(rng.standard_normal((p, p)))[0]
    X = (0.7 * rng.standard_normal((classes, p))[labels] + rng.standard_normal((n, p))) * spectrum
    X = X @ turn
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X.astype("float32"), labels


def spectrum(X: np.ndarray) -> np.ndarray:
    """The squared singular values of X, falling."""
    wide = X.astype("float64")
    return np.linalg.eigvalsh(wide.T @ wide)[::-1].clip(0)


def bound(squares: np.ndarray, k: int) -> float:
    """The relative error of the best approximation of rank k."""
    return float(np.sqrt(squares[k:].sum() / squares.sum()))


def relative_error(X: np.ndarray, W: Any, H: Any) -> float:
    """‖X − W H‖ / ‖X‖ in float64, whoever made W and H."""
    X, W, H = (np.asarray(A, dtype="float64") for A in (X, W, H))
    return float(np.linalg.norm(X - W @ H) / np.linalg.norm(X))
