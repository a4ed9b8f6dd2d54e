"""
Parts of handwritten digits
===========================

Centred images have values of either sign, so NMF is out; semi-NMF takes them apart all the same:
every image is the mean plus a few parts, each with a weight ≥ 0. A part may add ink, and may take
ink away.
"""

# %%
# The data: 1797 images of 8 × 8 pixels.

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.metrics import normalized_mutual_info_score

from snmf import SNMF, plots

X, digit = load_digits(return_X_y=True)

# %%
# A fit
# -----
#
# A little sparsity makes most weights zero, so that each image is a short sum.

model = SNMF(24, solver="hals", sparsity=0.03, fit_intercept=True, random_state=0)
W = model.fit_transform(X)
m = model.intercept_
print(f"{(W == 0).mean():.0%} of the weights are zero, {model.score(X):.0%} of ‖X‖² is explained")

# %%
# The parts, as images: red adds ink, blue takes it away. They come in the order of their weight in
# all images together.

plots.ComponentsDisplay.from_estimator(model, image_shape=(8, 8))

# %%
# An image as a sum
# -----------------
#
# The five largest weights of three images, with the parts that they stand before. The last column
# is ``m + W H``, of all parts.


def draw(ax, values, title, **options):
    ax.imshow(values.reshape(8, 8), **options)
    ax.set_title(title, fontsize=9)
    ax.axis("off")


ink = {"cmap": "gray_r", "vmin": 0, "vmax": 16}
signed = {"cmap": "RdBu_r", "vmin": -0.4, "vmax": 0.4}
figure, axes = plt.subplots(3, 8, figsize=(9, 3.6), layout="constrained")
for row, i in zip(axes, (3, 1, 6), strict=True):
    draw(row[0], X[i], "image", **ink)
    draw(row[1], m, "≈ m", **ink)
    for ax, j in zip(row[2:7], (-W[i]).argsort(), strict=False):
        draw(ax, model.components_[j], f"+ {W[i, j]:.0f} ×", **signed)
    draw(row[7], m + W[i] @ model.components_, "all parts", **ink)

# %%
# How good is the fit?
# --------------------
#
# No factorization of that rank is below the truncated singular value decomposition, of X less its
# mean since there is an intercept. Without the penalty the fit nearly gets there, though its
# weights must be nonnegative: parts cancel each other, and a warning says so. (Given X, the display
# computes the bound.)

close = SNMF(24, solver="hals", sparsity=0, fit_intercept=True, random_state=0).fit(X)
plots.ConvergenceDisplay.from_estimator(close, X)

# %%
# Prototypes in place of parts
# ----------------------------
#
# With ``locality`` a row is made of components *near* it, by weights that add up to about 1: then
# components are prototypes, at the scale of X, and weights are memberships. At 2 the largest weight
# tells the digits apart.

prototypes = SNMF(10, solver="hals", locality=2, n_init=5, random_state=0)
members = prototypes.fit_transform(X)
agreement = normalized_mutual_info_score(digit, members.argmax(axis=1))
print(f"agreement of the largest weight with the digit (NMI): {agreement:.2f}")
plots.ComponentsDisplay.from_estimator(prototypes, image_shape=(8, 8))

# %%
# The weights as a map: a line for every image, sorted by digit.

plots.WeightsDisplay.from_estimator(prototypes, X, labels=digit)
