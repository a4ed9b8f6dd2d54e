"""
Missing values, and how many components
=======================================

With ``missing_values=np.nan`` an entry that is NaN is not observed: the objective is summed over
the others, and nothing is filled in beforehand. That gives imputation, and a way to choose the
number of components: by entries held out on purpose.
"""

# %%
# Standardised measurements of 569 tumours, 30 each, of which a fifth is taken away at random.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.preprocessing import scale

from snmf import SNMF, select_n_components

truth = scale(load_breast_cancer().data)
missing = np.random.default_rng(0).random(truth.shape) < 0.2
X = np.where(missing, np.nan, truth)

# %%
# How many components?
# --------------------
#
# ``select_n_components`` leaves a fifth of the rows out of a fit, and predicts each fifth of their
# columns from the others; three times over, for every number. Too few components say too little;
# too many say what is true of the rows they saw alone.

selection = select_n_components(X, range(1, 11), tol=1e-4, random_state=0)
print(selection)

# %%
# ``selection.best`` is the number to take: the smallest that predicts as well as any other.

selection.plot()

# %%
# Imputation
# ----------
#
# ``transform`` gives weights to rows with holes, each by least squares over its own entries, and
# ``inverse_transform`` says what the entries may be.

model = SNMF(
    selection.best, solver="hals", missing_values=np.nan, tol=1e-4, max_iter=1000, random_state=0
)
W = model.fit_transform(X)
filled = np.where(missing, model.inverse_transform(W), X)

imputed = {
    "snmf": filled,
    "5 neighbours": KNNImputer().fit_transform(X),
    "mean": SimpleImputer().fit_transform(X),
}
for name, guess in imputed.items():
    error = np.linalg.norm((guess - truth)[missing]) / np.linalg.norm(truth[missing])
    print(f"{name:12} relative error in the missing entries {error:.3f}")

# %%
# Each missing entry against its guess:

figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), sharey=True, layout="constrained")
for ax, (name, guess) in zip(axes, imputed.items(), strict=True):
    ax.plot(truth[missing], guess[missing], ".", markersize=3, alpha=0.4)
    ax.axline((0, 0), slope=1, color="black", linewidth=0.8)
    ax.set(title=name, xlabel="truth", xlim=(-3, 5), ylim=(-3, 5))
axes[0].set_ylabel("imputed")
