"""
snmf in Turftopic
=================

SensTopic of Turftopic, with snmf in place of its own factorization. All of it works: ``"auto"``,
``partial_fit``, time slices, merging and saving. Keep this file beside your program, since a saved
model needs it, and begin with::

    from turftopic import SensTopic
    from turftopic.models import senstopic
    from turftopic_adapter import TopicSNMF

    senstopic.SNMF = TopicSNMF
    model = SensTopic(10, random_state=0).fit(texts)

Needed beside snmf: ``pip install turftopic==0.28.0``. Other versions may ask for other methods.
"""

from copy import copy

import numpy as np
from turftopic.merging import get_merge_fn

import snmf


class TopicSNMF(snmf.SNMF):
    """`snmf.SNMF` with the methods of SensTopic's class: F is its components, transposed; G is W.

    SensTopic's sparsity of 1, its default, is 0.01 in snmf, and so on.
    """

    def fit(self, X, y=None):
        self.fit_transform(X)
        return self

    def fit_transform(self, X, y=None):
        W = self._learn("fit_transform", X)
        self.n_datapoints_ = len(X)
        return W

    def fit_new_components(self, X, n_new_components):
        self._learn("add_components", X, n_new_components)
        self.n_datapoints_ += len(X)
        return self

    def _learn(self, method, *arguments):
        model = copy(self).set_params(sparsity=self.sparsity / 100, progress_bar=False)
        found = getattr(super(TopicSNMF, model), method)(*arguments)
        vars(self).update(vars(model) | self.get_params())
        self.n_components = self.n_components_
        return found

    def _with(self, components):
        model = copy(self)
        model.components_ = components
        model.n_components = model.n_components_ = len(components)
        return model

    def transform(self, X, F=None):
        return super(TopicSNMF, self if F is None else self._with(F.T)).transform(X)

    def fit_timeslice(self, X_t, G_t):
        return np.linalg.lstsq(G_t, X_t)[0]

    def bic(self, X, F=None, G=None):
        F = self.components_.T if F is None else F
        G = self.transform(X, F) if G is None else G
        n, p, k = *X.shape, F.shape[1]
        penalty = k * (n + p) / (n * p) * np.log(n * p / (n + p))
        return float(2 * np.log(np.linalg.norm(X - G @ F.T)) + penalty)

    def merge_with(self, other, match_threshold=0.7, merge_method="symmetric_mean", weighted=True):
        sizes = [self.n_datapoints_, other.n_datapoints_]
        H, history = get_merge_fn(merge_method)(
            [self.components_, other.components_],
            weights=sizes if weighted else None,
            match_threshold=match_threshold,
        )
        norms = np.linalg.norm(H, axis=1, keepdims=True)
        model = self._with(H / np.where(norms > 0, norms, 1))
        model.n_datapoints_ = sum(sizes)
        return model, history
