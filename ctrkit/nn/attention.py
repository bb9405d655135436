"""Attention of targets over a history."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.nn.kernels.attention_operator import attention_operator
from ctrkit.nn.kernels.operators import by_kernel
from ctrkit.nn.mlp import MLP
from ctrkit.nn.scan import check_shapes
from ctrkit.shapes import Shapes

_SHAPES = Shapes("weight: H W; target: U K W; events: U|1 L W; mask: U|1 L")


class TargetAttention(nn.Module):
    """Attention of "Deep Interest Network for Click-Through Rate Prediction" (Zhou et al., KDD 2018).

    An event h gets the weight a(t, h) = MLP([t, h, t * h]) for the target t. The reading is the sum of
    a(t, h) h. The weights are not normalised over the history, so the sum also shows how strong the interest
    is. The reading of an empty history is zero.

    With one hidden layer, in float32 and on a CPU, a compiled kernel (`ctrkit.nn.kernels`) does all of it. It
    needs no memory of the size pairs x hidden.

    The input t - h of some implementations is left out, because a linear layer that reads t and h covers it.

    Args:
        width: width of target and events.
        hidden: widths of the MLP, at least one.
        newest: number of events that are read, the newest; None reads all.
    """

    def __init__(self, width: int, hidden: Sequence[int] = (64,), newest: int | None = None) -> None:
        super().__init__()
        self.newest = newest
        self.of_target = nn.Linear(width, hidden[0])
        self.of_event = nn.Linear(width, hidden[0], bias=False)
        self.of_pair = nn.Linear(width, hidden[0], bias=False)
        self.tower = MLP(hidden[0], hidden[1:])
        self.score = nn.Linear(self.tower.outputs, 1)

    def forward(self, target: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """Read each history with each of its targets.

        Args:
            target: `[U, K, width]`.
            events: `[U, L, width]`.
            mask: bool `[U, L]`, True at events.

        Returns:
            `[U, K, width]`.
        """
        weight = self.of_event.weight
        check_shapes("TargetAttention", _SHAPES, weight=weight, target=target, events=events, mask=mask)
        base = self.of_target(target)
        events, mask = self._window(events), self._window(mask)
        if not len(self.tower) and by_kernel(target, base, events):
            events = events.expand(len(target), -1, target.shape[2])
            reading: Tensor = attention_operator(
                target,
                base,
                events,
                mask.expand(events.shape[:2]),
                self.of_event.weight,
                self.of_pair.weight,
                self.score.weight,
                self.score.bias,
            )
            return reading
        return self._weights(target, base, events, mask) @ events

    def weights(self, target: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """The weight a(t, h) of each event for a target, zero at padding; arguments as in `forward`.

        Returns:
            `[U, K, L]`, of either sign, not normalised.
        """
        window = self._window(events)
        weights = self._weights(target, self.of_target(target), window, self._window(mask))
        return F.pad(weights, (events.shape[1] - window.shape[1], 0))

    def _window(self, x: Tensor) -> Tensor:
        """What is read of `[U, L, ...]`."""
        return x if self.newest is None else x[:, -self.newest :]

    def _weights(self, target: Tensor, base: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """a(t, h) of every pair: `[U, K, width], [U, K, hidden], [U, L, width], [U, L] -> [U, K, L]`.

        With W_h and W_p for events and products, the first layer is (W_h + W_p diag(t)) h + W_t t + b: one
        matrix a target, applied to every event. No product of a pair is ever stored.

        Args:
            base: W_t t + b.
        """
        hidden = self.of_target.out_features
        by_target = target.transpose(1, 2).unsqueeze(3) * self.of_pair.weight.t().unsqueeze(1)
        matrices = by_target.add_(self.of_event.weight.t().unsqueeze(1))  # [U, width, K, hidden]
        # The gradients of products and sums do not read their results, which can be overwritten.
        first = events @ matrices.flatten(2)
        first = first.add_(base.flatten(1).unsqueeze(1)).relu_()
        by_pair = first.reshape(*events.shape[:2], target.shape[1], hidden)
        scores: Tensor = self.score(self.tower(by_pair))  # [U, L, K, 1]
        return scores.squeeze(3).transpose(1, 2) * mask.unsqueeze(1)
