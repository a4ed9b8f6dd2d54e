"""
A topic model of docstrings
===========================

Sentence embeddings have coordinates of either sign; a text is about a few topics, each to a degree
≥ 0. That is a semi-nonnegative factorization, and the way of the topic models that build on it.

Needed beside snmf: ``pip install wordllama`` (17 MB, with its embedding model inside, so that no
network is asked). With a larger model the embedding is ``SentenceTransformer(name).encode(texts)``,
and all that follows is the same.
"""

# %%
# Texts
# -----
#
# The beginnings of the docstrings of all that SciPy and scikit-learn make public.

import importlib
import inspect
from pathlib import Path

import numpy as np
import wordllama
from sklearn.feature_extraction.text import CountVectorizer

from snmf import SNMF, plots

BOILERPLATE = ("Read more in", "As an instance of", "The documentation is written", "..", "Note")


def docstrings(package):
    """What each public docstring says before its parameters, without its boilerplate."""
    for area in sorted(importlib.import_module(package).__all__):
        try:
            module = importlib.import_module(f"{package}.{area}")
        except ImportError:  # a function, not a module
            continue
        for name in sorted(getattr(module, "__all__", [])):
            try:
                thing = getattr(module, name)
            except ImportError:  # said to be experimental
                continue
            paragraphs = (inspect.getdoc(thing) or "").split("\nParameters\n")[0].split("\n\n")
            own = [p for p in paragraphs if not p.startswith((*BOILERPLATE, f"{name}("))]
            text = " ".join(" ".join(own).split())[:400]
            if callable(thing) and len(text) > 40:
                yield f"{package}.{area}", f"{area}.{name}", text


areas, names, texts = map(np.array, zip(*docstrings("scipy"), *docstrings("sklearn"), strict=True))
print(f"{len(texts)} texts, such as {names[600]}: {texts[600][:50]}…")

# %%
# Embeddings
# ----------
#
# Of unit norm. What all texts have in common is no topic, so the fit has an intercept.

folder = Path(wordllama.__file__).parent  # the model is in there
embedder = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
X = np.asarray(embedder.embed(list(texts), norm=True), dtype=np.float32)

# %%
# Topics
# ------
#
# ``sparsity=0.1`` leaves each text with a few topics of the fifteen.

model = SNMF(15, solver="hals", sparsity=0.1, fit_intercept=True, random_state=0)
W = model.fit_transform(X)
print(f"{(W > 0).sum(axis=1).mean():.1f} topics a text, in {model.n_iter_} iterations")

# %%
# A topic is named by its words: those that its texts have more often than all texts do.

counter = CountVectorizer(stop_words="english", min_df=8, binary=True, token_pattern="[a-zA-Z]{3,}")
counts = counter.fit_transform(texts)
words = counter.get_feature_names_out()
share = (counts.T @ (W / W.sum(axis=0))).T  # of a topic's weight, with that word
overall = np.asarray(counts.mean(axis=0)).ravel()
scores = share * np.log(share / overall + 1e-9)

for j, score in enumerate(scores):
    top = ", ".join(words[i] for i in score.argsort()[:-7:-1])
    print(f"{j:2}  {top:68}  e.g. {names[W[:, j].argmax()]}")

# %%
# A new text
# ----------
#
# ``transform`` solves the nonnegative least squares of each row exactly, and on its own: a text has
# the same topics whatever texts come beside it.

query = "compare the averages of two groups of measurements"
w = model.transform(np.asarray(embedder.embed([query], norm=True), dtype=np.float32))[0]
for j in (-w).argsort()[: np.count_nonzero(w)][:3]:
    print(f"{w[j]:.2f}  {', '.join(words[i] for i in scores[j].argsort()[:-5:-1])}")

# %%
# And words themselves are placed among the topics in the same way, through their own embeddings.

some = ["eigenvalue", "wavelet", "random forest", "p-value", "spline"]
placed = model.transform(np.asarray(embedder.embed(some, norm=True), dtype=np.float32))
for word, w in zip(some, placed, strict=True):
    print(
        f"{word:13} topic {w.argmax():2}: {', '.join(words[scores[w.argmax()].argsort()[:-5:-1]])}"
    )

# %%
# Where topics live
# -----------------
#
# The weights, sorted by the part of the libraries that a text is from; only parts with forty texts
# or more.

sizes = {area: np.sum(areas == area) for area in np.unique(areas)}
large = np.array([sizes[area] >= 40 for area in areas])
plots.WeightsDisplay(W[large], labels=areas[large]).plot()
