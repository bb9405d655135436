from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ctrkit.errors import DataError
from ctrkit.policies import FixedPolicy, LoggingPolicy

CANDIDATES = pl.Series("candidates", [[3, 7], [7, 1, 3]])


def test_the_logging_policy_is_what_was_logged() -> None:
    context = pl.DataFrame({"logging_probabilities": [[0.25, 0.75], [0.1, 0.2, 0.69999]]})
    found = LoggingPolicy().probabilities(context, CANDIDATES)
    np.testing.assert_allclose(found, [[0.25, 0.75, 0], [0.1, 0.2, 0.7]], atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-15)
    with pytest.raises(DataError, match="logging_probabilities"):
        LoggingPolicy().probabilities(pl.DataFrame({"x": [1, 2]}), CANDIDATES)


@pytest.mark.parametrize("action", [7, "7"])
def test_one_action_always(action: str | int) -> None:
    found = FixedPolicy(action).probabilities(pl.DataFrame({"x": [1, 2]}), CANDIDATES)
    assert found.tolist() == [[0, 1, 0], [1, 0, 0]]


def test_an_action_that_a_row_does_not_have() -> None:
    with pytest.raises(DataError, match="action 1 is not among the candidates") as error:
        FixedPolicy(1).probabilities(pl.DataFrame({"x": [1, 2]}), CANDIDATES)
    assert error.value.row == 0
