from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.special import expit

import ctrkit
from ctrkit.api.models.task_calibrators import joint_of
from ctrkit.data.derive import plan_of
from ctrkit.errors import ArtifactError, DataError


def test_predictions_are_calibrated_probabilities_a_column_a_task(trained: Path, logs: Path) -> None:
    model = ctrkit.load(trained)
    table = pl.read_parquet(logs / "impressions.parquet")
    predicted = model.predict(table)
    assert predicted.columns == ["click", "conversion"]
    logits = model.outputs(table).logits
    a, b = (model.calibrators["click"].state()[key] for key in ("slope", "intercept"))
    np.testing.assert_allclose(predicted["click"], expit(float(a) * logits[:, 0] + float(b)), rtol=1e-6)


def test_frames_of_every_kind_and_files_give_the_same(trained: Path, logs: Path) -> None:
    model = ctrkit.load(trained)
    table = pl.read_parquet(logs / "impressions.parquet")[:200]
    expected = model.predict(table)
    frame = table.to_pandas().set_index("event_id", drop=False)
    from_pandas = model.predict(frame)
    assert (from_pandas.index == frame.index).all()
    np.testing.assert_array_equal(from_pandas.to_numpy(), expected.to_numpy())
    np.testing.assert_array_equal(model.predict(table.to_arrow()).to_numpy(), expected.to_numpy())
    np.testing.assert_allclose(
        model.predict(logs / "impressions.parquet")[:200].to_numpy(), expected.to_numpy(), rtol=1e-4
    )


def test_labels_are_not_needed_to_predict(trained: Path, logs: Path) -> None:
    table = pl.read_parquet(logs / "impressions.parquet")[:20]
    model = ctrkit.load(trained)
    assert model.predict(table.drop("click", "conversion")).equals(model.predict(table))


def test_a_candidate_scores_as_the_same_ad_in_a_row_of_its_own(trained: Path, logs: Path) -> None:
    model = ctrkit.load(trained)
    log = pl.read_parquet(logs / "bandit.parquet")[:50]
    scores = model.score_candidates(log, log["candidates"], hidden=True)
    k = 3
    single = log.with_columns(
        ad_id=pl.col("candidates").list.get(k),
        **{f"ad_{n}": pl.col(f"candidate_ad_{n}").list.get(k) for n in ("category", "advertiser", "price")},
    )
    predicted = model.predict(single)
    for task in model.tasks:
        np.testing.assert_allclose(scores.probabilities[task][:, k], predicted[task], rtol=1e-4)
    assert scores.hidden is not None
    mean = model.posterior.mean
    np.testing.assert_allclose(scores.hidden @ mean[:-1] + mean[-1], scores.logits, atol=1e-4)


def test_lists_of_candidates_may_differ_in_length(trained: Path, logs: Path) -> None:
    model = ctrkit.load(trained)
    log = pl.read_parquet(logs / "bandit.parquet")[:10]
    lists = [name for name in log.columns if name.startswith("candidate")]
    keep = pl.Series("keep", [1 + i % 8 for i in range(10)])
    shorter = log.with_columns(keep).with_columns(pl.col(name).list.head(pl.col("keep")) for name in lists)
    whole = model.score_candidates(log, log["candidates"]).logits
    part = model.score_candidates(shorter, shorter["candidates"]).logits
    there = np.arange(8) < keep.to_numpy()[:, None]
    assert (np.isnan(part) == ~there).all()
    np.testing.assert_allclose(part[there], whole[there], atol=1e-5)


def test_no_rows_and_rows_without_candidates(trained: Path, logs: Path) -> None:
    model = ctrkit.load(trained)
    table = pl.read_parquet(logs / "impressions.parquet")
    assert model.predict(table[:0]).shape == (0, 2)
    log = pl.read_parquet(logs / "bandit.parquet")[:4]
    lists = [name for name in log.columns if name.startswith("candidate")]
    keep = pl.Series("keep", [0, 2, 0, 3])
    some = log.with_columns(keep).with_columns(pl.col(name).list.head(pl.col("keep")) for name in lists)
    found = model.score_candidates(some, some["candidates"], hidden=True)
    whole = model.score_candidates(log, log["candidates"])
    assert found.logits.shape == (4, 3)
    np.testing.assert_array_equal(np.isfinite(found.logits).sum(axis=1), keep.to_numpy())
    np.testing.assert_allclose(found.logits[3], whole.logits[3, :3], atol=1e-5)
    for nothing in (some[[0, 2]], log[:0]):
        found = model.score_candidates(nothing, nothing["candidates"], hidden=True)
        assert found.logits.shape == (nothing.height, 0)
        assert found.hidden is not None
        assert found.hidden.shape[:2] == (nothing.height, 0)


def test_a_log_without_the_candidates_features_is_refused(trained: Path, logs: Path) -> None:
    model = ctrkit.load(trained)
    log = pl.read_parquet(logs / "bandit.parquet")[:10]
    with pytest.raises(DataError, match="candidate_ad_price"):
        model.score_candidates(log.drop("candidate_ad_price"), log["candidates"])
    short = log.with_columns(pl.col("candidate_ad_price").list.head(3))
    with pytest.raises(DataError, match="not as long as the list of candidates"):
        model.score_candidates(short, log["candidates"])
    rate = {"name": "rate", "by": "ad_id", "prior": 0.02, "makes": {"ad_price": "rate"}}
    model.rows = replace(model.rows, plan=plan_of([rate]))
    with pytest.raises(
        DataError, match=r"'candidate_ad_price'.* nothing is derived .* a value for each candidate"
    ):
        model.score_candidates(log.drop("candidate_ad_price"), log["candidates"])


@pytest.mark.slow
def test_a_model_without_a_candidate_spec_says_so(logs: Path, tmp_path: Path, small: tuple[str, ...]) -> None:
    path = tmp_path / "m.pt"
    ctrkit.train(
        data=logs / "impressions.parquet",
        model=path,
        out=tmp_path / "r",
        overrides=[*small, "training.epochs=1", "features.candidate=null"],
    )
    log = pl.read_parquet(logs / "bandit.parquet")[:10]
    with pytest.raises(ArtifactError, match="has no `candidate`"):
        ctrkit.load(path).score_candidates(log, log["candidates"])


def test_the_joint_logit_is_exact_however_small_the_product() -> None:
    logits = np.array([[-3.0, -2.0], [-400.0, -500.0], [40.0, 30.0], [-20.0, 3.0]])
    found = joint_of(logits, 1)
    with localcontext(prec=500):
        for row, (first, second) in enumerate(logits.tolist()):
            p = 1 / (1 + Decimal(-first).exp()) / (1 + Decimal(-second).exp())
            assert found[row] == pytest.approx(float((p / (1 - p)).ln()), rel=1e-9)
    assert joint_of(logits, 0) == pytest.approx(logits[:, 0], rel=1e-9)
