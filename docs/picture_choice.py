"""The second picture of README.rst: how many parts, and where classes live.

``python docs/picture_choice.py``
"""

from pathlib import Path

import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.preprocessing import scale

from snmf import SNMF, plots, select_n_components

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")

tumours = scale(load_breast_cancer().data)
select_n_components(tumours, range(1, 13), repeats=5, tol=1e-4, random_state=0).plot(left)
left.set_title("How many components? Tumours, 30 features", fontsize=10)

X, digit = load_digits(return_X_y=True)
X = X - X.mean(axis=0)
model = SNMF(10, solver="hals", locality=2, n_init=5, random_state=0).fit(X)
plots.WeightsDisplay.from_estimator(model, X, labels=digit, ax=right)
right.set(title="Weights with locality=2: handwritten digits", ylabel="images, by digit")
right.title.set_fontsize(10)
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
