"""A small log of known truth and a small model, so that training can be tested without the rooms above."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from ctrkit.data.encoded import EncodedTable
from ctrkit.data.feature_map import FeatureMap
from ctrkit.data.split import Split
from ctrkit.models import Output
from ctrkit.nn.batches import Batch

FEATURES = FeatureMap(
    tables={"ad": 30}, categorical={"ad": "ad"}, numeric=("x", "y"), tasks=("click", "conversion")
)


class SmallModel(nn.Module):
    """A shared bottom with dropout and a linear layer a task, with all the auxiliary outputs there are."""

    device = torch.device("cpu")
    encodes_history = False

    def __init__(self) -> None:
        super().__init__()
        self.feature_map = FEATURES
        self.embedding = nn.Embedding(30, 4)
        self.bottom = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.1))
        self.heads = nn.ModuleList(nn.Linear(8, 1) for _ in range(3))

    def forward(self, batch: Batch, history: None = None) -> Output:
        fields = self.embedding(batch.categorical[:, 0].long())
        hidden = self.bottom(torch.cat([fields, batch.numeric], dim=1))
        click, conversion, imputation = (head(hidden) for head in self.heads)
        auxiliary = {"imputation.conversion": imputation[:, 0]}
        return Output(torch.cat([click, conversion], dim=1), hidden, auxiliary)

    @classmethod
    def seeded(cls) -> SmallModel:
        """The same model every time."""
        torch.manual_seed(0)
        return cls()


@pytest.fixture(scope="session")
def data() -> EncodedTable:
    """3,000 rows of 300 users: clicks and conversions both depend on ad and numbers."""
    rng = np.random.default_rng(0)
    ads, numeric = rng.integers(2, 30, 3000), rng.normal(size=(3000, 2))
    taste = rng.normal(size=(30, 2))
    rates = 1.0 / (1.0 + np.exp(0.5 - taste[ads] - numeric))
    click = rng.random(3000) < rates[:, 0]
    conversion = click & (rng.random(3000) < rates[:, 1])
    return EncodedTable(
        categorical=ads[:, None].astype(np.int32),
        numeric=numeric.astype(np.float32),
        sequences={},
        labels=np.stack([click, conversion], axis=1).astype(np.float32),
        weight=rng.uniform(0.5, 1.5, 3000).astype(np.float32),
        groups=rng.integers(0, 300, 3000),
    )


@pytest.fixture(scope="session")
def split() -> Split:
    """2,000 rows to train on, 500 to validate, 500 to test."""
    rows = np.arange(3000)
    return Split(rows[:2000], rows[2000:2500], rows[2500:], "random")


@pytest.fixture
def new_model() -> Callable[[], SmallModel]:
    """Makes the same small model every time."""

    return SmallModel.seeded
