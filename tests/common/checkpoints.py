"""Fits that are stopped, and what is compared of those that go on."""

import functools

import numpy as np
import pytest
from fits import centred

import snmf
from snmf import _checkpoint

factorize = functools.partial(snmf.factorize, n_components=4, progress_bar=False, tol=0)
planted = functools.partial(centred, noise=0.6)


class Stop(BaseException):
    """No library catches it."""


def stopped(fit, path, after):
    """Stop a fit when its checkpoint has been written so often; whether it came to that."""
    keep, count = _checkpoint.Checkpoint.keep, iter(range(1, after + 1))

    def counted(self, *given):
        keep(self, *given)
        if next(count) == after:
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_checkpoint.Checkpoint, "keep", counted)
        try:
            fit(checkpoint=path, checkpoint_interval=0)
        except Stop:
            return True
    return False


def assert_same(ours, theirs):
    np.testing.assert_array_equal(ours.W, theirs.W)
    np.testing.assert_array_equal(ours.H, theirs.H)
    np.testing.assert_array_equal(ours.loss_curve, theirs.loss_curve)
    assert (ours.error, ours.n_iter, ours.reason) == (theirs.error, theirs.n_iter, theirs.reason)


def header_of(file):
    return _checkpoint.json.loads(file[_checkpoint.HEADER].tobytes())
