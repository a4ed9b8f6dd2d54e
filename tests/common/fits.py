"""Fits and data of several files of tests."""

import functools

import numpy as np

import snmf
from snmf.backends import adapter

NumPy = type(adapter("numpy"))
SOLVERS = ["mu", "hals"]
INITS = ["skewness", "varimax", "kmeans", "svd", "random"]
factorize = functools.partial(snmf.factorize, random_state=0, progress_bar=False)


def planted(seed=0, n=120, p=30, k=4, noise=0.3, dtype="float64"):
    rng = np.random.default_rng(seed)
    X = rng.random((n, k)) @ rng.standard_normal((k, p)) + noise * rng.standard_normal((n, p))
    return X.astype(dtype)


def centred(seed=0, n=207, p=12, k=4, noise=0.3, dtype="float64"):
    """Data for which the SVD start is not the optimum, so that rounding changes little."""
    X = planted(seed, n, p, k, noise)
    return (X - X.mean(axis=0)).astype(dtype)
