"""An artifact as the reward model of DM and DR, and whether it has seen the log before."""

from __future__ import annotations

from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.api.models.model import Model
from ctrkit.api.policies.artifact_policy import CandidateScorer
from ctrkit.arrays import Floats
from ctrkit.data.encoder import EncodedTable
from ctrkit.data.fingerprints import SAMPLE_SIZE, beyond_chance, row_hashes, sample_from
from ctrkit.errors import ArtifactError, DataError
from ctrkit.ope import BanditLog
from ctrkit.policies import candidate_mask
from ctrkit.schema import require_columns

# From this share of rows that the artifact was trained on, the doubly robust estimates lean on them.
SEEN = 0.05


class ArtifactRewards:
    """The calibrated probability of the first task as the expected reward of every candidate.

    Args:
        model: an artifact, or a scorer that its policies share.
    """

    def __init__(self, model: Model | CandidateScorer) -> None:
        self.scorer = model if isinstance(model, CandidateScorer) else CandidateScorer(model)

    def predict(self, log: BanditLog, rows: slice) -> Floats:
        """q [B, K] of the candidates of some rows; 0 at missing places.

        Raises:
            DataError: a reward is neither 0 nor 1, so that a probability does not predict it.
        """
        if not log.binary:
            row = int(np.argmin(np.isin(log.reward, (0.0, 1.0))))
            place = log.locate(row)
            raise DataError(
                f"an artifact predicts the probability of a reward of 1, and this one is {log.reward[row]:g}",
                file=place.file,
                column="reward",
                row=place.row,
                hint="Give rewards of 0 and 1, or take a reward model that is fitted on the log",
            )
        context, candidates = log.table[rows], log.candidates(rows)
        found = self.scorer.probabilities(context, candidates)
        return np.where(candidate_mask(candidates), found, 0.0)


class SeenRows:
    """Counts the rows of a log that an artifact was trained on.

    An artifact keeps hashes of a sample of its training rows, over features, histories and labels (see
    `ctrkit.data.fingerprints`). A decision of the log becomes such a row again: the context, the logged
    action with its features, and its reward as the first task's label. Labels of later tasks are not in the
    log; after a reward of 1 every way to go on is tried. Only rows with the same features in the same
    columns are known again: nothing found is no proof that nothing was seen.

    Args:
        model: the artifact's.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.told = 0
        self.found = 0

    def update(self, log: BanditLog) -> None:
        """Take in rows; those whose reward is neither 0 nor 1 tell nothing."""
        sample = self._sample()
        if sample is None or not log.binary:
            return
        rows = self._logged(log)
        reward = log.reward
        whole = np.iinfo(np.uint64).max if sample.size < SAMPLE_SIZE else sample[-1]
        for depth in range(len(self.model.tasks) + 1):
            mine = np.flatnonzero(reward == min(depth, 1))
            labels = np.zeros((mine.size, len(self.model.tasks)), dtype=np.float32)
            labels[:, :depth] = 1.0
            hashes = row_hashes(
                EncodedTable(
                    rows.categorical[mine],
                    rows.numeric[mine],
                    {name: ids[mine] for name, ids in rows.sequences.items()},
                    labels,
                    rows.weight[mine],
                )
            )
            told = hashes[hashes <= whole]
            # A row that is looked up under several hashes counts as one.
            self.told += told.size if depth < 2 else 0
            self.found += int(np.isin(told, sample).sum())

    def merge(self, other: Self) -> None:
        """Take in what another has counted of the same artifact."""
        self.told += other.told
        self.found += other.found

    def result(self) -> float | None:
        """The share of rows that training has seen, less those alike by chance; None: that cannot be told."""
        seen = self.model.artifact.data.get("seen")
        return None if seen is None else beyond_chance(self.found, self.told, float(seen["alike"]))

    def note(self) -> str | None:
        """A sentence of warning, where so many rows were seen that it matters."""
        share = self.result()
        if share is None or share <= SEEN:
            return None
        return (
            f"The artifact that predicts rewards was trained on about {share:.0%} of these rows: it is surer "
            "of them than of new ones, so DM and DR cannot be trusted. Give a log that it has not seen."
        )

    def _sample(self) -> NDArray[np.uint64] | None:
        seen = self.model.artifact.data.get("seen")
        return None if seen is None else sample_from(seen)

    def _logged(self, log: BanditLog) -> EncodedTable:
        """The rows with the logged action in them, encoded as in training, without labels."""
        chosen = self.model.spec.candidate
        if chosen is None:
            raise ArtifactError(
                "the model's feature spec names no candidate, so it cannot score candidates",
                hint="Add `candidate: {id: ..., features: [...]}` to the config's features and train again",
            )
        listed = self.model.spec.candidate_lists(log.table.columns)
        require_columns(log.table, list(listed.values()), log.file)
        table = log.table.with_columns(
            log.table["action"].alias(chosen.id),
            *(
                log.table[column].list.get(pl.Series(log.action_index)).alias(name)
                for name, column in listed.items()
            ),
        )
        return self.model.encoder.encode(table, log.file, labels=False)
