from __future__ import annotations

import torch

from ctrkit.nn.mlp import MLP


def test_mlp_widths() -> None:
    tower = MLP(5, (7, 3), dropout=0.5)
    assert tower.outputs == 3
    assert tower(torch.randn(2, 4, 5)).shape == (2, 4, 3)
    assert MLP(5, ()).outputs == 5
