"""The picture of README.rst: handwritten digits as sums of parts, ``python docs/picture.py``."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from snmf import SNMF

PARTS = 24
SHOWN = (3, 1, 6)  # images to take apart
TERMS = 5


def image(ax, values, title="", **options):
    ax.imshow(values.reshape(8, 8), **options)
    ax.set_title(title, fontsize=9)
    ax.axis("off")


X = load_digits().data
model = SNMF(PARTS, solver="hals", sparsity=0.03, fit_intercept=True, random_state=0)
W = model.fit_transform(X)
H, m = model.components_, model.intercept_
signed = {"cmap": "RdBu_r", "vmin": -0.4, "vmax": 0.4}
grey = {"cmap": "gray_r", "vmin": 0, "vmax": 16}

figure = plt.figure(figsize=(9, 5.6), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=(2, 3))
above.suptitle(f"H: {PARTS} parts, of any sign (red adds ink, blue takes it away)", fontsize=10)
for ax, h in zip(above.subplots(2, PARTS // 2).flat, H, strict=True):
    image(ax, h, **signed)

below.suptitle(
    "W ≥ 0: an image is the intercept m plus a few parts, each with its weight", fontsize=10
)
for row, i in zip(below.subplots(len(SHOWN), TERMS + 3), SHOWN, strict=True):
    order = np.argsort(-W[i])[:TERMS]
    image(row[0], X[i], "image", **grey)
    image(row[1], m, "≈ m", **grey)
    for ax, j in zip(row[2:], order, strict=False):
        image(ax, H[j], f"+ {W[i, j]:.0f} ×", **signed)
    image(row[-1], m + W[i] @ H, "all parts", **grey)
figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)
