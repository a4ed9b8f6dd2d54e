"""What the rows of H may be: of norm at most 1, nonnegative, or with few nonzero entries.

Given W, F depends on X by the sums S and T alone.  With all rows of H but one given, F in that row
is ½ T_jj ‖h − v‖² and a constant, so its minimum within any limits is the projection of v onto
them (`snmf.core.updates.least_squares_within`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from snmf.core import updates

SWEEPS = 2  # of the H-step within limits


@dataclass(frozen=True)
class Limits:
    """The limits of every row of H.

    Parameters
    ----------
    ball : bool, default=False
        Limits the norm to 1.
    nonnegative : bool, default=False
        Allows no entry below zero.
    nonzeros : int, default=None
        Allows at most this many entries that are not zero. None allows any number.
    """

    ball: bool = False
    nonnegative: bool = False
    nonzeros: int | None = None

    @property
    def none(self) -> bool:
        return not (self.ball or self.by_entry)

    @property
    def by_entry(self) -> bool:
        """Whether single entries are limited, so that H may not be rotated."""
        return self.nonnegative or self.nonzeros is not None

    def project(self, v: np.ndarray) -> np.ndarray:
        """Return the nearest row within the limits, of shape (p,); v is the row.

        Whatever entries remain, the rest of F falls with their norm: so the largest remain.
        """
        v = self._of_entries(v)
        return v / max(1.0, math.sqrt(float(v @ v))) if self.ball else v

    def _of_entries(self, v: np.ndarray) -> np.ndarray:
        if self.nonnegative:
            v = np.maximum(v, 0.0)
        if self.nonzeros is not None and self.nonzeros < len(v):
            v = np.array(v)
            v[np.argpartition(np.abs(v), -self.nonzeros)[: -self.nonzeros]] = 0.0
        return v

    def of_entries(self, H: np.ndarray, first: int = 0) -> np.ndarray:
        """Return H with its rows from `first` on projected, but for their norms."""
        if not self.by_entry:
            return H
        return np.stack([h if j < first else self._of_entries(h) for j, h in enumerate(H)])


NO_LIMITS = Limits()


def h_step(
    ops: Any,
    limits: Limits,
    least_squares: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    S: np.ndarray,
    T: np.ndarray,
    H: np.ndarray,
    first: int = 0,
) -> np.ndarray:
    """Make the H-step from H: by least squares, or row by row within the limits.

    Rows before `first` stay as they are; `least_squares` keeps them too.
    """
    if limits.none:
        return least_squares(S, T, H)
    found: np.ndarray = updates.least_squares_within(ops, S, T, H, limits.project, SWEEPS, first)
    return found
