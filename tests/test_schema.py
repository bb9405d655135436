from __future__ import annotations

import datetime as dt

import polars as pl
import pytest

from ctrkit.config import build
from ctrkit.errors import ConfigError, DataError
from ctrkit.schema import (
    AUCTION_LOG,
    BANDIT_LOG,
    CandidateSpec,
    CategoricalFeature,
    Column,
    FeatureSpec,
    check_column,
)

LOG = pl.DataFrame({"item_id": [3, 1], "pscore": [0.5, 1.0], "click": [0, 1], "x": [1.0, 2.0]})


def test_aliases_are_renamed_and_other_columns_pass() -> None:
    log = BANDIT_LOG.apply(LOG)
    assert log.columns == ["action", "propensity", "reward", "x"]
    assert log["reward"].to_list() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("column", "values", "said", "row"),
    [
        ("pscore", [0.5, 0.0], "0 is not in (0, 1]", 1),
        ("pscore", [1.5, 0.5], "1.5 is not in (0, 1]", 0),
        ("pscore", [0.5, None], "the value is missing", 1),
        ("pscore", [0.5, float("nan")], "nan is not a finite number", 1),
        ("pscore", ["0.5", "half"], "'half' is not a number", 1),
        ("click", [float("inf"), 0], "inf is not a finite number", 0),
        ("item_id", [1.5, 2.0], "ids are integers or text", None),
    ],
)
def test_a_bad_value_is_named_with_column_row_and_mend(
    column: str, values: list[object], said: str, row: int | None
) -> None:
    bad = LOG.with_columns(pl.Series(column, values, strict=False))
    with pytest.raises(DataError) as caught:
        BANDIT_LOG.apply(bad, "log.parquet")
    error = caught.value
    assert said in str(error)
    assert (error.file, error.column, error.row) == ("log.parquet", column, row)
    assert error.hint


def test_a_missing_column_names_its_aliases() -> None:
    with pytest.raises(DataError, match=r"column 'propensity'.*pscore, propensity_score"):
        BANDIT_LOG.apply(LOG.drop("pscore"))


@pytest.mark.parametrize(
    ("values", "said", "row"),
    [
        ([[1], []], "the list is empty", 1),
        ([[1], [2, None]], "the list holds a missing value", 1),
        ([1, 2], "one list in each row", None),
    ],
)
def test_lists_are_checked(values: list[object], said: str, row: int | None) -> None:
    with pytest.raises(DataError, match=said) as caught:
        BANDIT_LOG.apply(LOG.with_columns(pl.Series("candidates", values)))
    assert caught.value.row == row


def test_a_probability_in_a_list_may_be_zero_but_not_above_one() -> None:
    column = Column("p", "probabilities", "")
    assert check_column(pl.Series("p", [[0.0, 1.0]]), column).to_list() == [[0.0, 1.0]]
    with pytest.raises(DataError, match=r"holds 1\.2, which is not a probability"):
        check_column(pl.Series("p", [[0.5], [0.5, 1.2]]), column)


def test_times_of_every_kind_become_unix_seconds() -> None:
    moment = dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC)
    column = Column("t", "time", "")
    for values in ([moment], [moment.isoformat()], [int(moment.timestamp())], [moment.timestamp()]):
        assert check_column(pl.Series("t", values), column).to_list() == [moment.timestamp()]
    with pytest.raises(DataError, match="'soon' is not a time"):
        check_column(pl.Series("t", ["2024-01-01T00:00:00", "soon"]), column)


def test_a_negative_market_price_is_refused() -> None:
    with pytest.raises(DataError, match="-1 is below 0"):
        AUCTION_LOG.apply(pl.DataFrame({"market_price": [2, -1]}))


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ({}, "at least one"),
        ({"numeric": [{"name": "a"}], "categorical": [{"name": "a"}]}, "declared twice"),
        ({"numeric": [{"name": "click"}]}, "is a label"),
        ({"numeric": [{"name": "true_click_probability"}]}, "the truth of a simulated market"),
        ({"numeric": [{"name": "a"}], "weight": "a"}, "row weight"),
        ({"numeric": [{"name": "a"}], "sequences": [{"name": "s", "shares": "b"}]}, "no categorical feature"),
        ({"numeric": [{"name": "a"}], "target": ["b"]}, "target 'b'"),
        ({"numeric": [{"name": "a"}], "target": ["click"]}, "target 'click'"),
    ],
)
def test_specs_that_contradict_themselves_are_refused(features: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(FeatureSpec, features)


def test_a_candidate_differs_from_the_others_by_some_feature() -> None:
    content = {"categorical": [{"name": "ad_id"}], "candidate": {"id": "adid"}}
    with pytest.raises(
        ConfigError, match=r"all candidates of a row would get the same score\. Did you mean 'ad_id'"
    ):
        build(FeatureSpec, content)


def test_a_feature_that_a_log_lists_a_candidate_is_the_candidates() -> None:
    names = ("ad_id", "brand", "device", "category")
    spec = FeatureSpec(
        categorical=tuple(CategoricalFeature(name=name) for name in names),
        candidate=CandidateSpec(id="ad_id", features=("brand",)),
    )
    # A log without the list of a declared feature is refused; one with the list of another is heard.
    assert spec.candidate_lists(("device",)) == {"brand": "candidate_brand"}
    lists = spec.candidate_lists(("candidate_category", "candidate_ad_id", "candidate_other"))
    assert lists == {"brand": "candidate_brand", "category": "candidate_category"}


OWN = pl.DataFrame({"ad": ["a", "b"], "p": [2.5, 9.0], "chance": [0.5, 1.0], "action": [1, 2], "won": [0, 1]})
NAMES = {"action": "ad", "pscore": "chance", "reward": "won"}


def test_columns_named_by_the_user_go_before_names_and_aliases() -> None:
    log = BANDIT_LOG.called(NAMES).apply(OWN)
    # `p`, an alias of the propensity, is a column of its own here, and so is the other `action` no action.
    assert log.to_dict(as_series=False) == {
        "action": ["a", "b"], "p": [2.5, 9.0], "propensity": [0.5, 1.0], "reward": [0.0, 1.0]
    }  # fmt: skip
    swapped = BANDIT_LOG.called({"reward": "action", "action": "reward", "propensity": "chance"})
    assert swapped.apply(OWN.rename({"won": "reward"}))["reward"].to_list() == [1.0, 2.0]


def test_what_a_user_says_of_columns_is_checked() -> None:
    with pytest.raises(ConfigError, match=r"no column 'acton'\. Did you mean 'action'"):
        BANDIT_LOG.called({"acton": "ad"})
    with pytest.raises(ConfigError, match="'ad' is named for both 'action' and 'user_id'"):
        BANDIT_LOG.called({"action": "ad", "user_id": "ad"})
    with pytest.raises(ConfigError, match="'reward' is given twice"):
        BANDIT_LOG.called({"reward": "won", "click": "ad"})
    with pytest.raises(DataError, match=r"'chances': no such column.*for 'propensity'.*mean 'chance'"):
        BANDIT_LOG.called(NAMES | {"pscore": "chances"}).apply(OWN)
    with pytest.raises(DataError, match=r"x\.csv, column 'chance', row index 0: 2 is not in \(0, 1\]"):
        BANDIT_LOG.called(NAMES).apply(OWN.with_columns(chance=pl.Series([2.0, 1.0])), "x.csv")
    with pytest.raises(DataError, match="column 'p': the bandit log has this column, and a propensity"):
        BANDIT_LOG.called({"action": "ad", "reward": "won"}, {"propensity": 0.5}).apply(OWN)


def test_a_constant_propensity_is_that_of_every_row() -> None:
    schema = BANDIT_LOG.called({"action": "ad", "reward": "won"}, {"propensity": 0.25})
    assert schema.apply(OWN.drop("p"))["propensity"].to_list() == [0.25, 0.25]
