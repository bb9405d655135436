"""Maps of embeddings in two dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from ctrkit.arrays import Floats, Integers
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.feature_map import FIRST_ID
from ctrkit.errors import DataError, nearest
from ctrkit.explanations.extra import require
from ctrkit.explanations.features import Names
from ctrkit.models import CtrModel

MapName: TypeAlias = Literal["pca", "tsne", "umap"]
HIDDEN = "hidden"


@dataclass(frozen=True)
class EmbeddingMap:
    """Points in the plane.

    Attributes:
        of: the field whose embeddings are shown, or "hidden" for the last layer's inputs of each row.
        method: the method of the layout.
        points: the positions of the points, `[n, 2]`.
        names: the names of the points; a row's name is its number.
        rows: the number of rows that each point stands for, `[n]`.
        rate: the rate observed on these rows, or the predicted probability of a single row, `[n]`.
        explained: the share of variance that a PCA keeps; None for other methods.
    """

    of: str
    method: MapName
    points: Floats
    names: tuple[str, ...]
    rows: Integers
    rate: Floats
    explained: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "of": self.of,
            "method": self.method,
            "explained_variance": self.explained,
            "points": [
                {"name": name, "x": float(x), "y": float(y), "rows": int(rows), "rate": float(rate)}
                for name, (x, y), rows, rate in zip(
                    self.names, self.points, self.rows, self.rate, strict=True
                )
            ],
        }


@dataclass(frozen=True)
class TableVectors:
    """The embeddings of a field's ids in some rows, the most frequent id first.

    Attributes:
        vectors: the embeddings, `[n, d]`.
        names: the ids as text.
        rows: the number of rows with each id, `[n]`.
        rate: the share of positives among these rows, `[n]`.
    """

    vectors: Floats
    names: tuple[str, ...]
    rows: Integers
    rate: Floats


@torch.no_grad()
def table_vectors(
    network: CtrModel,
    data: EncodedTable,
    names: Names,
    field: str,
    *,
    task: int = 0,
    most: int = 2000,
) -> TableVectors:
    """The embedding of each value of a categorical field, with its frequency and observed rate.

    Args:
        network: the network.
        data: labelled rows.
        names: the names of encoded values.
        field: the categorical field.
        task: the index of the task whose rate is given.
        most: the largest number of ids.

    Raises:
        DataError: there is no such categorical field, or the model embeds nothing.
    """
    categorical = network.feature_map.categorical
    if field not in categorical:
        raise DataError(f"'{field}' is no categorical feature", hint=nearest(field, [*categorical, HIDDEN]))
    if network.embedding is None:
        raise DataError("the model has no embeddings to map", hint=f"Map '{HIDDEN}'")
    column = data.categorical[:, list(categorical).index(field)]
    ids, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
    positives = np.bincount(inverse, weights=data.labels[:, task], minlength=ids.size)
    known = np.flatnonzero(ids >= FIRST_ID)
    chosen = known[np.argsort(-counts[known], kind="stable")][:most]
    table = categorical[field]
    kind: Any = next(kind for kind in network.embedding.kinds if table in kind.names)  # type: ignore[operator]
    device = next(network.parameters()).device
    vectors = kind(
        torch.from_numpy(ids[chosen])[:, None].to(device),
        torch.tensor([kind.names.index(table)], device=device),
    )
    return TableVectors(
        vectors[:, 0].double().cpu().numpy(),
        tuple(names.id(table, int(value)) for value in ids[chosen]),
        counts[chosen],
        positives[chosen] / counts[chosen],
    )


def lay_out(vectors: Floats, method: MapName = "pca", *, seed: int = 0) -> tuple[Floats, float | None]:
    """Vectors `[n, d]` as points `[n, 2]`.

    "pca" keeps the two directions of largest variance. "tsne" (van der Maaten and Hinton, JMLR 2008, with
    openTSNE) and "umap" (McInnes et al., arXiv 1802.03426, with umap-learn) keep neighbours together; in
    their maps, distances between groups have no meaning.

    Args:
        vectors: the vectors, `[n, d]`.
        method: the method of the layout.
        seed: seed of "tsne" and "umap".

    Returns:
        The points, and for "pca" the share of variance that they keep.

    Raises:
        DataError: there are fewer than three vectors for "pca", or fewer than five for other methods.
        ConfigError: a package is not installed.
    """
    least = 3 if method == "pca" else 5
    if len(vectors) < least:
        raise DataError(f"a map by {method} needs {least} points, and there are {len(vectors)}")
    if method == "pca":
        return principal_components(vectors)
    if method == "tsne":
        tsne = require("openTSNE", "a t-SNE map").TSNE(
            perplexity=min(30.0, (len(vectors) - 1) / 3),
            initialization="pca",
            random_state=seed,
            n_jobs=1,
            neighbors="exact",
        )
        return np.asarray(tsne.fit(vectors), dtype=np.float64), None
    umap = require("umap", "a UMAP map").UMAP(
        n_neighbors=min(15, len(vectors) - 1), random_state=seed, n_jobs=1
    )
    return np.asarray(umap.fit_transform(vectors), dtype=np.float64), None


def principal_components(vectors: Floats) -> tuple[Floats, float]:
    """The first two principal components, `[n, 2]`, and the share of the variance in them.

    The sign of a component is set so that its largest loading is positive; so it is the same in every run.
    """
    centred = vectors - vectors.mean(axis=0)
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(vectors), 2))
    kept = min(2, sizes.size)
    largest = np.abs(right[:kept]).argmax(axis=1)
    signs = np.where(right[np.arange(kept), largest] < 0, -1.0, 1.0)
    points[:, :kept] = left[:, :kept] * sizes[:kept] * signs
    total = float((sizes**2).sum())
    return points, float((sizes[:kept] ** 2).sum() / total) if total > 0 else 1.0
