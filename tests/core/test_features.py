import numpy as np
import pytest

from snmf.core.features import largest

H = np.array([0.0, -2.0, 1.0, 2.0, 0.0, -3.0])


@pytest.mark.parametrize(
    ("n", "sign", "expected"),
    [
        (3, 0, [5, 1, 3]),  # of −2 and 2 the first comes first
        (9, 0, [5, 1, 3, 2]),
        (9, 1, [3, 2]),
        (1, -1, [5]),
        (9, -1, [5, 1]),
    ],
)
def test_largest_leaves_out_zeros_and_the_other_sign(n, sign, expected):
    np.testing.assert_array_equal(largest(H, n, sign), expected)


def test_a_component_of_zeros_has_no_largest_entry():
    assert largest(np.zeros(4), 2).tolist() == []
