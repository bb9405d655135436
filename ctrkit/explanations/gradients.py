"""Attributions by gradients: integrated gradients and DeepSHAP, both with captum."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from ctrkit.data.encoded import EncodedTable
from ctrkit.errors import ConfigError
from ctrkit.explanations.attributions import Attributions
from ctrkit.explanations.extra import require
from ctrkit.explanations.features import chunks
from ctrkit.explanations.substitution import BaselineName, Substituted
from ctrkit.models import CtrModel
from ctrkit.nn.batches import Batch
from ctrkit.training import predict

# The number of rows times steps that go through the network at once.
_BATCH = 4096
# DeepSHAP is refused if its gap is a larger share of the logit difference than this.
DEEPSHAP_GAP = 0.05


def integrated_gradients(
    network: CtrModel,
    data: EncodedTable,
    background: EncodedTable,
    *,
    task: int = 0,
    baseline: BaselineName = "mean",
    steps: int = 64,
    tolerance: float = 0.01,
    most_steps: int = 1024,
) -> Attributions:
    """Integrated gradients of a task's logit, over the embeddings of ids, numbers and events.

    Source: "Axiomatic Attribution for Deep Networks" (Sundararajan et al., ICML 2017),

        share_i = (x_i - x'_i) ∫_0^1 ∂f(x' + a (x - x')) / ∂x_i da.

    The shares add up to f(x) - f(x'). The integral is evaluated at `steps` points (Gauss-Legendre). A row
    whose gap is above the tolerance gets four times as many, up to `most_steps`; the remaining gap is in
    `Attributions.gap`.

    The baseline x' has the mean vector of every column over the background (or the vector of the unknown id).
    Its numbers have the vector of 0, their mean in training. It has as many events as the row, each the mean
    event. So the shares of events show the effect of which events they are, not of how many there are.

    Args:
        network: the network.
        data: n rows to explain.
        background: the rows that the mean is taken over.
        task: the index of the task; the logit of a later task is given the task before it.
        baseline: "mean" or "unknown" (see `Substituted.baseline`).
        steps: the number of points of the integral.
        tolerance: the largest |gap| / max(|f(x) - f(x')|, 0.1) before a row gets more steps.
        most_steps: the largest number of points.

    Raises:
        ConfigError: captum is not installed.
    """
    captum = require("captum.attr", "integrated gradients")
    function = Substituted(network, task, Batch.of(data, slice(0, 1)).to(_device(network)))
    start = function.baseline(baseline, background)
    method = captum.IntegratedGradients(function)
    final = predict(network, data).logits[:, task]
    n, length = len(data), _length(data)
    fields = np.zeros((n, data.fields))
    events = np.zeros((n, length, len(data.sequences)))
    base = np.zeros(n)
    rows = np.arange(n)
    while rows.size:
        for part in chunks(rows.size, max(1, _BATCH // steps)):
            chosen = rows[part]
            batch = Batch.of(data, chosen).to(function.device)
            ends, starts = function.end(batch), function.start(start, batch)
            with torch.no_grad():
                base[chosen] = function(*starts, *function.ids(batch)).double().cpu().numpy()
            shares = method.attribute(
                tuple(ends), tuple(starts), additional_forward_args=function.ids(batch), n_steps=steps
            )
            fields[chosen], events[chosen] = function.by_unit(shares, fields.shape[1], length)
        found = Attributions(fields, events.sum(axis=(1, 2)), events, base, final, "ig")
        rows = rows[found.relative_gap[rows] > tolerance]
        if steps >= most_steps:
            break
        steps = min(4 * steps, most_steps)
    return Attributions(fields, events.sum(axis=(1, 2)), events, base, final, "ig")


def deepshap(
    network: CtrModel, data: EncodedTable, background: EncodedTable, *, task: int = 0
) -> Attributions:
    """DeepSHAP of a task's logit: the mean of DeepLIFT's attributions over background rows.

    Source: "A Unified Approach to Interpreting Model Predictions" (Lundberg and Lee, NeurIPS 2017), with
    captum's `DeepLiftShap`. Fields and numbers are compared with those of the background rows. Events are
    compared with the mean event, because a background row need not have events at the same positions.

    DeepLIFT has rules for modules that work on one number at a time (ReLU, sigmoid). For products, attention,
    normalisation and recurrence it uses the plain gradient, and its shares then do not add up. If the gap is
    above 5 % of the difference, DeepSHAP is refused.

    Args:
        network: the network.
        data: n rows to explain.
        background: the rows to compare with, a few dozen.
        task: the index of the task.

    Raises:
        ConfigError: captum is not installed, or DeepSHAP does not work for this model.
    """
    captum = require("captum.attr", "DeepSHAP")
    device = _device(network)
    function = Substituted(network, task, Batch.of(data, slice(0, 1)).to(device))
    mean = function.baseline("mean", background)
    others = function.end(Batch.of(background, slice(0, len(background))).to(device))
    method = captum.DeepLiftShap(function)
    final = predict(network, data).logits[:, task]
    n, length = len(data), _length(data)
    fields = np.zeros((n, data.fields))
    events, base = np.zeros((n, length, len(data.sequences))), np.zeros(n)
    for row in range(n):
        batch = Batch.of(data, slice(row, row + 1)).to(device)
        ends = function.end(batch)
        starts = _background_of(function, others, function.start(mean, batch))
        ids = function.ids(batch)
        with torch.no_grad():
            many = tuple(tensor.expand(len(background), *tensor.shape[1:]) for tensor in ids)
            base[row] = function(*starts, *many).double().mean().item()
        with warnings.catch_warnings():
            # captum warns that it sets hooks while it works and removes them afterwards.
            warnings.filterwarnings("ignore", message="Setting forward, backward hooks")
            try:
                shares = method.attribute(tuple(ends), tuple(starts), additional_forward_args=ids)
            except RuntimeError as error:
                raise _refused("captum cannot follow a layer that is used more than once") from error
        fields[row : row + 1], events[row : row + 1] = function.by_unit(shares, fields.shape[1], length)
    found = Attributions(fields, events.sum(axis=(1, 2)), events, base, final, "deepshap")
    _check_deepshap(found)
    return found


def _background_of(function: Substituted, others: list[Tensor], start: list[Tensor]) -> list[Tensor]:
    """The background for one row: others' fields and numbers, and mean events where the row has events."""
    count = len(others[0])
    mixed = []
    for other, own, of_events in zip(others, start, function.of_events, strict=True):
        mixed.append(own.expand(count, *own.shape[1:]).clone() if of_events else other)
    return mixed


def _check_deepshap(found: Attributions) -> None:
    worst = float(found.relative_gap.max(initial=0.0))
    if worst > DEEPSHAP_GAP:
        raise _refused(
            f"the sum of its shares misses the logit difference by up to {worst:.0%}, as DeepLIFT has no "
            "rule for products, attention, normalisation or recurrence"
        )


def _refused(reason: str) -> ConfigError:
    return ConfigError(
        f"DeepSHAP does not work for this model: {reason}",
        hint="Use the method ig or shap, which work for every model",
    )


def _length(data: EncodedTable) -> int:
    """L, the length of a padded history."""
    return max((one.width for one in data.sequences.values()), default=0)


def _device(network: CtrModel) -> torch.device:
    return next(network.parameters()).device
