"""The features that count most in a component."""

from __future__ import annotations

import numpy as np


def largest(h: np.ndarray, n: int, sign: int = 0) -> np.ndarray:
    """Return the indices of at most n nonzero entries of largest magnitude, in falling order.

    Of equal entries the first comes first. With `sign` 1 or −1, only positive or only negative
    entries count.
    """
    places = np.flatnonzero(h * sign > 0 if sign else h)
    order = np.argsort(-np.abs(h[places]), kind="stable")
    return places[order[:n]]
