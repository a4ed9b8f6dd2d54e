"""Turftopic's SensTopic with the class of ``examples/turftopic_adapter.py``."""

import importlib
import warnings
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import normalized_mutual_info_score

import snmf

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own libraries
    turftopic = pytest.importorskip("turftopic", reason="Turftopic: tox -e turftopic")
    senstopic = importlib.import_module("turftopic.models.senstopic")

RNG = np.random.default_rng(0)
TOPICS = RNG.standard_normal((5, 32))
WORDS = [[f"{topic}{word}" for word in "uvwxyz"] for topic in ("aa", "bb", "cc", "dd", "ee")]
LABELS = RNG.integers(5, size=200)
TEXTS = [" ".join(RNG.choice(WORDS[topic], 6)) for topic in LABELS]
DAYS = [datetime(2020, 1, 1) + timedelta(days=day) for day in range(200)]


class Encoder:
    """A text lies near the directions of its words' topics."""

    def encode(self, texts, **_):
        topics = ["abcde".index(text[0]) for text in texts]
        noise = np.random.default_rng(len(topics)).standard_normal((len(topics), 32))
        E = TOPICS[topics] + 0.2 * noise
        return (E / np.linalg.norm(E, axis=1, keepdims=True)).astype("float32")


@pytest.fixture
def adapter(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "examples")
    module = importlib.import_module("turftopic_adapter")
    monkeypatch.setattr(senstopic, "SNMF", module.TopicSNMF)
    return module


def senstopic_of(k, **parameters):
    settings = {"random_state": 0, "encoder": Encoder(), "vectorizer": CountVectorizer()}
    return turftopic.SensTopic(k, **settings | parameters)


def texts(kept):
    return [text for text, keep in zip(TEXTS, kept, strict=True) if keep]


def agreement(W, labels=LABELS):
    return normalized_mutual_info_score(labels, W.argmax(axis=1))


def test_topics_and_their_words(adapter):
    model = senstopic_of(5)
    W = model.fit_transform(TEXTS)
    assert agreement(W) == 1
    np.testing.assert_array_equal(model.transform(TEXTS), W)
    found = {frozenset(word[0] for word in words[:6]) for words in model.get_top_words(6)}
    assert found == {frozenset(letter) for letter in "abcde"}


def test_a_sparsity_of_one_is_a_hundredth_of_that_here(adapter):
    X = Encoder().encode(TEXTS)
    settings = {"random_state": 0, "progress_bar": False}
    model = adapter.TopicSNMF(5, sparsity=3, **settings)
    np.testing.assert_array_equal(
        model.fit_transform(X), snmf.SNMF(5, sparsity=0.03, **settings).fit_transform(X)
    )
    assert model.sparsity == 3
    assert clone(model).get_params() == model.get_params()


def test_saved_and_loaded_it_gives_the_same_bits(adapter, tmp_path):
    model = senstopic_of(5, random_state=None).fit(TEXTS)
    model.to_disk(tmp_path / "model")
    loaded = turftopic.load_model(tmp_path / "model")
    np.testing.assert_array_equal(loaded.transform(TEXTS[:9]), model.transform(TEXTS[:9]))
    np.testing.assert_array_equal(loaded.components_, model.components_)
    snmf.save(model.decomposition, tmp_path / "model.snmf")
    alone = snmf.load(tmp_path / "model.snmf", classes=[adapter.TopicSNMF])
    np.testing.assert_array_equal(alone.transform(Encoder().encode(TEXTS)), model.transform(TEXTS))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # at too many
def test_auto_takes_the_number_that_is_there(adapter):
    assert senstopic_of("auto").fit(TEXTS).n_components_ == 5


def test_the_criterion_is_that_of_turftopic(adapter):
    X = Encoder().encode(TEXTS)
    model = adapter.TopicSNMF(5, sparsity=1, random_state=0, progress_bar=False)
    W, F = model.fit_transform(X), model.components_.T
    theirs = importlib.import_module("turftopic.models._snmf").SNMF(5)
    theirs.components_ = model.components_
    given = [dict(zip(("F", "G"), pair, strict=True)) for pair in product((F, None), (W, None))]
    for arguments in given:
        assert model.bic(X, **arguments) == pytest.approx(theirs.bic(X, F=F, G=W), rel=1e-5)


def test_time_slices(adapter):
    model = senstopic_of(5)
    W = model.fit_transform_dynamic(TEXTS, timestamps=DAYS, bins=4)
    assert model.temporal_components_.shape == (4, 5, 30)
    words = model.vectorizer.get_feature_names_out()
    for part, j in product(model.temporal_components_, range(5)):
        top = LABELS[W.argmax(axis=1) == j][0]
        assert {words[i] for i in part[j].argsort()[-3:]} <= set(WORDS[top])
    X = Encoder().encode(TEXTS)
    H = model.decomposition.fit_timeslice(X, W)
    np.testing.assert_allclose(W.T @ (X - W @ H), 0, atol=1e-4)
    np.testing.assert_array_equal(
        model.decomposition.transform(X, F=model.decomposition.components_.T), W
    )
    late = [DAYS[-1] + timedelta(days=9)] * 40
    model.partial_fit(TEXTS[:40], timestamps=late, n_new_components=5)
    assert model.temporal_components_.shape == (5, 5, 30)


@pytest.mark.parametrize("method", ["symmetric_mean", "asymmetric_mean", "keep_first"])
def test_parts_are_merged(adapter, method):
    first, rest = LABELS < 3, LABELS > 1  # the third topic is in both
    model = senstopic_of(3).fit(texts(first))
    before = model.decomposition
    W = model.partial_fit_transform(
        texts(rest), n_new_components=3, merge_method=method, weighted=False
    )
    assert W.shape == (rest.sum(), 5)
    assert agreement(W, LABELS[rest]) == 1
    assert agreement(model.transform(TEXTS)) == 1
    merged = model.decomposition
    assert merged.n_datapoints_ == first.sum() + rest.sum()
    np.testing.assert_allclose(np.linalg.norm(merged.components_, axis=1), 1, rtol=1e-6)
    assert len(before.components_) == before.n_components == 3
    if method == "keep_first":
        np.testing.assert_allclose(merged.components_[:3], before.components_, rtol=1e-6)


def test_new_components_beside_the_old(adapter):
    X = Encoder().encode(TEXTS)
    model = adapter.TopicSNMF(3, sparsity=1, random_state=0, progress_bar=False).fit(X[LABELS < 3])
    old = model.components_
    model.fit_new_components(X[LABELS > 2], 2)
    assert model.n_components == 5
    assert model.n_datapoints_ == len(X)
    np.testing.assert_array_equal(model.components_[:3], old)
    assert agreement(model.transform(X)) == 1
