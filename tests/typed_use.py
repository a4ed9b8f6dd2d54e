"""How a user's code is typed; mypy reads this file, and nothing runs it.

An error that mypy should find has an ``ignore``, which is itself an error where there is nothing to
ignore.
"""

from typing import assert_type

import numpy as np

import snmf

X = np.eye(6)

model = snmf.SNMF(3, solver="hals", init="kmeans", random_state=np.random.default_rng(0))
assert_type(model.fit(X), snmf.SNMF)
assert_type(model.fit_transform(X), np.ndarray)
assert_type(model.transform(X), np.ndarray)
assert_type(model.inverse_transform(X), np.ndarray)
assert_type(model.components_, np.ndarray)
assert_type(model.intercept_, np.ndarray | None)
assert_type(model.n_iter_, int)
assert_type(model.reconstruction_err_, float)
assert_type(model.loss_curve_, np.ndarray)
snmf.SNMF(n_components="auto", backend="torch", device="cpu")
snmf.SNMF(3, solver="hats")  # type: ignore[arg-type]
snmf.SNMF(3, init="k-means")  # type: ignore[arg-type]
snmf.SNMF("three")  # type: ignore[arg-type]
snmf.SNMF(3, solvr="hals")  # type: ignore[call-arg]

stream = snmf.MiniBatchSNMF(3, solver="hals")
assert_type(stream.partial_fit(X), snmf.MiniBatchSNMF)
assert_type(stream.components_, np.ndarray)
assert_type(stream.loss_, float)
snmf.MiniBatchSNMF(3, solver="hats")  # type: ignore[arg-type]

result = snmf.factorize(X, 3, solver="hals", missing_values=np.nan)
assert_type(result, snmf.Factorization)
assert_type(result.W, np.ndarray)
assert_type(result.H, np.ndarray)
assert_type(snmf.fit_transform(X, 3, sparsity=0.1), np.ndarray)
snmf.factorize(X, 3, solvr="hals")  # type: ignore[call-arg]
snmf.factorize(X, 3, tol="small")  # type: ignore[arg-type]
snmf.factorize(X, 3, fixed="H")  # type: ignore[arg-type]
snmf.fit_transform(X, 3, init="k-means")  # type: ignore[arg-type]
snmf.stability(X, 3, n_jobs=2, solver="hals")
snmf.stability(X, 3, checkpoint="a.npz")  # type: ignore[call-arg]
snmf.select_n_components(X, [2, 3], n_jobs=2, fit_intercept=True)
snmf.select_n_components(X, [2, 3], sparsty=0.1)  # type: ignore[call-arg]
