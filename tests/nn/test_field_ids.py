from __future__ import annotations

import numpy as np
import torch

from ctrkit.data.bins import Bins
from ctrkit.data.feature_map import FeatureMap
from ctrkit.nn.batches import Batch
from ctrkit.nn.field_ids import FieldIds

EDGES = tuple(float(edge) for edge in range(9))
HOURS = (0, 0, 3, 1, 2, 4, 1, 2, 3, 4)
MAP = FeatureMap(
    tables={"user": 5, "hour": len(HOURS)},
    categorical={"user": "user", "hour": "hour"},
    numeric=("age", "price", "size"),
    bins={"age": Bins((0.0, 1.0, 2.0), (0.5, 0.5)), "price": Bins(EDGES, (0.5,) * 8)},
    quarters={"hour": HOURS},
)


def test_ids_are_those_of_loops() -> None:
    fields = FieldIds(MAP)
    assert fields.names == ("user", "hour", "age", "price", "hour in quarters", "price in quarters")
    assert fields.sizes == (5, 10, 5, 11, 5, 5)
    assert fields.owners == (0, 1, 2, 3, 1, 3)
    assert fields.whole == 4
    rng = np.random.default_rng(0)
    rows = 60
    ids = np.stack([rng.integers(-1, 5, rows), rng.integers(-1, 10, rows)], axis=1)
    numbers = rng.uniform(-2.0, 10.0, (rows, 3))
    numbers[rng.random(numbers.shape) < 0.2] = np.nan
    numbers[:9, 1] = EDGES
    batch = Batch(
        torch.from_numpy(ids).int(),
        torch.from_numpy(numbers).float(),
        {},
        torch.zeros(rows, 0),
        torch.ones(rows),
    )
    for found, of_row, (age, price, _) in zip(fields(batch).tolist(), ids, numbers, strict=True):
        user, hour = (1 if one < 0 else int(one) for one in of_row)
        in_bins = [
            0 if np.isnan(number) else 1 + sum(number >= edge for edge in edges)
            for number, edges in ((age, (0, 1, 2)), (price, EDGES))
        ]
        # Ten places between and beyond nine edges: 3, 2, 3 and 2 of them in each quarter.
        of_price = (0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4)[in_bins[1]]
        assert found == [user, hour, *in_bins, HOURS[hour], of_price]


def test_fields_without_ids_have_no_columns() -> None:
    fields = FieldIds(FeatureMap(tables={}, categorical={}, numeric=("age",)))
    batch = Batch(
        torch.zeros(3, 0, dtype=torch.int32), torch.ones(3, 1), {}, torch.zeros(3, 0), torch.ones(3)
    )
    assert (fields.names, fields(batch).shape) == ((), (3, 0))
