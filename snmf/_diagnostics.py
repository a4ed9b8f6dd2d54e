"""The class `Diagnostics`: what each component of a model does for some data, as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from snmf._html import table
from snmf.core.contributions import Contributions
from snmf.core.start import unit_rows

COLUMNS = ("share", "usage", "mass", "cosine", "nearest", "dead")


@dataclass(frozen=True, eq=False, repr=False)
class Diagnostics:
    """What each component does for some data: the result of `SNMF.diagnostics`.

    Print it for a table. A notebook shows the table by itself.

    Attributes
    ----------
    share : ndarray of shape (n_components,)
        How much the squared error rises if the component is left out, while the others stay as
        they are, divided by ‖X‖². It is above 1 for components that cancel each other.
    usage : ndarray of shape (n_components,)
        The share of the rows that use the component: their weight is above zero.
    mass : ndarray of shape (n_components,)
        Σ w ‖h‖ ÷ Σ ‖x‖ over the rows: the size of the component times its weights, next to the
        size of the rows.
    cosine : ndarray of shape (n_components,)
        The cosine to the nearest other component: of all cosines the one with the largest
        magnitude, with its sign. 0 if there is no other component.
    nearest : ndarray of int, of shape (n_components,)
        The index of that component. −1 if all cosines are 0.
    score : float
        The share of ‖X‖² that all components explain together, as `SNMF.score`.
    """

    share: np.ndarray
    usage: np.ndarray
    mass: np.ndarray
    cosine: np.ndarray
    nearest: np.ndarray
    score: float

    @classmethod
    def of(cls, found: Contributions, H: np.ndarray, score: float) -> Diagnostics:
        """Return the diagnostics for the contributions of the components H."""
        return cls(*found, *nearest_of(H), score)

    @property
    def dead(self) -> np.ndarray:
        """Whether no row uses the component, of shape (n_components,)."""
        return np.asarray(self.usage == 0)

    @property
    def total_mass(self) -> float:
        """The sum of `mass`. Far above 1, components cancel each other: set some sparsity."""
        return float(self.mass.sum())

    def to_frame(self) -> Any:
        """Return the table as a pandas DataFrame, with a row for every component.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_frame needs pandas: pip install pandas") from error
        columns = {name: getattr(self, name) for name in COLUMNS}
        return pd.DataFrame(columns).rename_axis("component")

    def __str__(self) -> str:
        head = " ".join(["component", *(f"{name:>8}" for name in COLUMNS)])
        lines = (
            f"{cells[0]:>9} " + " ".join(f"{cell:>8}" for cell in cells[1:])
            for cells in self._cells()
        )
        return "\n".join([head, *(line.rstrip() for line in lines), self._summary()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return table(("component", *COLUMNS), self._cells(), self._summary())

    def _cells(self) -> list[list[str]]:
        return [
            [
                str(j),
                f"{self.share[j]:.4f}",
                f"{self.usage[j]:.3f}",
                f"{self.mass[j]:.3f}",
                f"{round(self.cosine[j], 2) + 0.0:.2f}",  # never -0.00
                str(self.nearest[j]) if self.nearest[j] >= 0 else "",
                "dead" if self.dead[j] else "",
            ]
            for j in range(len(self.share))
        ]

    def _summary(self) -> str:
        return f"score {self.score:.4f}, total mass {self.total_mass:.3f}"


def nearest_of(H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for every row of H the cosine of largest magnitude to another row, and its index.

    A row of zeros has cosine 0 to all. If all cosines of a row are 0, the index is −1.
    """
    unit = unit_rows(H)[0]
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, 0.0)
    nearest = np.abs(cosines).argmax(axis=1)
    largest = np.clip(cosines[np.arange(len(H)), nearest], -1, 1)
    return largest, np.where(largest == 0, -1, nearest)
