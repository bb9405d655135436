"""Pairwise products of vectors, in time linear in their number."""

from __future__ import annotations

import torch
from torch import Tensor

from ctrkit.errors import ConfigError


def pair_products(vectors: Tensor) -> Tensor:
    """The sum of v_i * v_j over all pairs i < j, dimension by dimension: `[B, F, d] -> [B, d]`.

    The sum over dimensions is that of the inner products <v_i, v_j>: the second-order part of
    "Factorization Machines" (Rendle, ICDM 2010), by its lemma 3.1

        sum over i < j of v_i v_j = ((sum over i of v_i)^2 - sum over i of v_i^2) / 2

    in O(F d) rather than O(F^2 d).
    """
    total = vectors.sum(dim=1)
    products: Tensor = 0.5 * (total.square() - vectors.square().sum(dim=1))
    return products


def of_like_length(fields: Tensor, readings: Tensor) -> Tensor:
    """Vectors to multiply with one another: `[B, F, d], [B, R, d] -> [B, F + R, d]`.

    A reading of a history is normalised to the length sqrt(d), while initial embeddings are short. Products
    with such readings would make the logits of a new model arbitrarily large. So each reading is scaled to
    the length 1.
    """
    return torch.cat([fields, readings * readings.shape[-1] ** -0.5], dim=1)


def check_pairs(model: str, vectors: int) -> None:
    """Check that a model which multiplies pairs of vectors has at least one pair.

    Args:
        model: name of the model, for the message.
        vectors: number of vectors that the model multiplies with one another.

    Raises:
        ConfigError: there are fewer than two.
    """
    if vectors < 2:
        raise ConfigError(
            f"{model} multiplies pairs of features, but the number of features is {vectors}",
            hint="Declare more under `features`, or use the model 'dnn' or 'lr'",
        )
