import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mnskills_viz.axes.examples import overrepresented, poles


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=40), st.integers(1, 12))
def test_poles_are_the_ends_and_do_not_meet(values, n):
    z = np.array(values)
    ends = poles(z, n)
    assert not set(ends.positive) & set(ends.negative) or len(set(values)) < len(values)
    assert (
        sorted(z[ends.positive], reverse=True) == sorted(values, reverse=True)[: len(ends.positive)]
    )
    assert sorted(z[ends.negative]) == sorted(values)[: len(ends.negative)]


def test_categories_that_stand_out():
    everywhere = ["a"] * 8 + ["b"] * 2
    assert overrepresented(everywhere, [8, 9]) == [("b", 1.0)]
    assert overrepresented(everywhere, range(10)) == []
    assert overrepresented([None, None], [0]) == []
