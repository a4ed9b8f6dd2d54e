"""The second picture of README.rst: what is found of components that are known.

``python docs/picture_planted.py``
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import snmf

rng = np.random.default_rng(0)
planted = rng.standard_normal((10, 100)) + rng.standard_normal(100)  # they share a direction
X = rng.gamma(2, 0.5, (2000, 10)) @ planted
X = X + 0.3 * X.std() * rng.standard_normal(X.shape)
centred = X - X.mean(axis=0)
fits = {
    "sparsity=0": (X, {"sparsity": 0, "init": "kmeans"}),
    "the default": (X, {}),
    "centred, the default": (centred, {}),
    "centred, fit_intercept=True": (centred, {"fit_intercept": True}),
}
figure, axes = plt.subplots(1, 4, figsize=(9, 2.6), layout="constrained", sharey=True)
for ax, (title, (data, parameters)) in zip(axes, fits.items(), strict=True):
    result = snmf.factorize(data, 10, random_state=0, progress_bar=False, **parameters)
    found = snmf.align(result.H, planted).components
    unit = planted / np.linalg.norm(planted, axis=1, keepdims=True)
    ax.imshow(abs(unit @ found.T), vmin=0, vmax=1, cmap="Greys")
    ax.set(xlabel="found", xticks=[], yticks=[])
    ax.set_title(title, fontsize=9)
axes[0].set_ylabel("planted")
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
