"""Whether two studies as columns are the same."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tuner.storage.records import Records


def assert_same(found: Records, expected: Records) -> None:
    """The same to the last bit and type."""
    assert (found.name, found.directions, found.states) == (expected.name, expected.directions, expected.states)
    assert dict(found.attributes) == dict(expected.attributes)
    np.testing.assert_array_equal(found.values, expected.values)
    pd.testing.assert_index_equal(_times(found.started), _times(expected.started))
    pd.testing.assert_index_equal(_times(found.completed), _times(expected.completed))
    assert dict(found.notes) == dict(expected.notes)
    assert dict(found.distributions) == dict(expected.distributions)
    assert {*found.parameters} == {*expected.parameters}
    for name, column in found.parameters.items():
        assert [(type(value), repr(value)) for value in column] == [
            (type(value), repr(value)) for value in expected.parameters[name]
        ]
    pd.testing.assert_frame_equal(found.reports, expected.reports)
    everyone = range(len(found))
    for key in ("recipe", "values", "traceback"):
        assert found.heavy(key, everyone) == expected.heavy(key, everyone)


def _times(found: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Whatever unit pandas keeps them in."""
    return pd.DatetimeIndex(found).as_unit("us")
