"""Logs in every format, small ones written by hand, and what damaged ones are told."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ctrkit.data.sources import open_bandit
from ctrkit.errors import ConfigError, DataError
from ctrkit.ope import evaluate, read_bandit_log
from ctrkit.ope.formats import detect, read_log
from ctrkit.policies import UniformPolicy

TABLE = pl.DataFrame(
    {
        "event_id": ["e1", "e2", "e3"],
        "action": [3, 1, 2],
        "propensity": [0.5, 0.25, 1.0],
        "reward": [1.0, 0.0, 0.0],
        "candidates": [[1, 3], [1, 2, 3], [2]],
        "logging_probabilities": [[0.5, 0.5], [0.25, 0.25, 0.5], [1.0]],
        "candidate_colour": [["red", "blue"], ["red", "green", "blue"], ["green"]],
    }
)

DSJSON = """[checkpoint 1]
{"_label_cost":-1.5,"_label_probability":0.8,"_label_Action":2,"_labelIndex":1,"Timestamp":"2021-07-29T10:00:00.5160000Z",\
"EventId":"e1","a":[2,1,3],"p":[0.8,0.1,0.1],"c":{"User":{"age":31,"_id":"x"},"tags":[1],"_multi":[{"i":{"id":"A"}},{"i":{"id":"B"}},{"i":{"id":"C"}}]},"pdrop":0.5}
{"RewardValue":1.0,"EnqueuedTimeUtc":"2021-07-29T10:00:00Z","EventId":"lost"}
{"_label_cost":0,"_label_probability":1,"_label_Action":1,"_labelIndex":0,"_skipLearn":true,"EventId":"off","a":[1],"c":{},"p":[1]}

{"_label_cost":0,"_label_probability":0.25,"_label_Action":1,"_labelIndex":0,"Timestamp":"2021-07-29T10:00:02Z",\
"EventId":"e2","a":[3,1],"p":[0.75,0.25],"c":{"User":{"age":40.5},"_multi":[{"i":{"id":"A"}},{"i":{"id":"B"}}]}}
"""

# Three banners of one slot and one of two, with inverse propensities.
CRITEO = """example 7: 5fa 1 4.0 1 2 1:300 2:250 9:a
1 exid:7 11:5 12:x 12:y
0 exid:7 11:6
example 8: 5fb 0 2.5 1 3 1:300 2:250
0 exid:8 11:6
0 exid:8 11:6
0 exid:8 11:5 12:x 12:y
example 9: 5fc 0 30 2 2 1:728
0 exid:9 11:6
0 exid:9 11:5
example 10: 5fd 0 1 1 1 1:300
0 exid:10 11:7
"""


def write(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def as_text(table: pl.DataFrame, template: str) -> pl.DataFrame:
    """Lists as a CSV may hold them."""
    joined = {
        "|": lambda values: "|".join(str(value) for value in values),
        "json": lambda values: json.dumps(list(values)),
    }[template]
    lists = [name for name, dtype in table.schema.items() if dtype == pl.List]
    return table.with_columns(pl.Series(name, [joined(v) for v in table[name]]) for name in lists)


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "jsonl.gz", "json", "csv", "csv.gz", "json in csv"])
def test_the_same_table_in_every_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"log.{kind.split()[-1]}"
    if kind == "parquet":
        TABLE.write_parquet(path)
    elif kind.startswith("json") and kind != "json in csv":
        text = TABLE.write_ndjson()
        path.write_bytes(gzip.compress(text.encode()) if kind.endswith("gz") else text.encode())
    else:
        text = as_text(TABLE, "json" if kind == "json in csv" else "|").write_csv()
        path.write_bytes(gzip.compress(text.encode()) if kind.endswith("gz") else text.encode())
    assert detect(path).name == "table"
    assert read_bandit_log(path).table.equals(TABLE)


def test_many_files_are_one_log_and_an_error_names_the_right_one(tmp_path: Path) -> None:
    parts = [TABLE[:1], TABLE[1:2], TABLE[2:]]
    for number, part in enumerate(parts):
        part.write_parquet(tmp_path / f"day{number}.parquet")
    files = sorted(tmp_path.iterdir())
    for source in (str(tmp_path / "day*.parquet"), files, [str(tmp_path / "day[01].parquet"), files[2]]):
        log = read_bandit_log(source)
        assert log.table.equals(TABLE)
        np.testing.assert_array_equal(log.action_index, [1, 0, 0])
        assert log.locate(1) == (str(files[1]), 0)
    parts[1].with_columns(propensity=pl.lit(1.5)).write_parquet(files[1])
    with pytest.raises(DataError, match=r"not in \(0, 1\]") as caught:
        read_bandit_log(str(tmp_path / "*"))
    assert (caught.value.file, caught.value.row) == (str(files[1]), 0)
    parts[1].with_columns(target_probability=pl.lit(0.5)).write_parquet(files[1])
    with pytest.raises(DataError, match="the first file does not have this column") as caught:
        read_bandit_log(files)
    assert (caught.value.file, caught.value.column) == (str(files[1]), "target_probability")
    wrong = [
        part.with_columns(target_probability=pl.lit(value))
        for part, value in zip(parts, (0.5, 0.5, 2.0), strict=True)
    ]
    for part, file in zip(wrong, files, strict=True):
        part.write_parquet(file)
    with pytest.raises(DataError, match="above 1") as caught:
        read_bandit_log(files)
    assert (caught.value.file, caught.value.row) == (str(files[2]), 0)


def test_files_of_other_types_and_globs_without_files_are_refused(tmp_path: Path) -> None:
    table = TABLE.drop("candidates", "logging_probabilities", "candidate_colour")
    table.with_columns(age=pl.lit(31)).write_parquet(tmp_path / "1.parquet")
    table.with_columns(age=pl.lit("31")).write_parquet(tmp_path / "2.parquet")
    with pytest.raises(DataError, match="String here and Int32 in the first file") as caught:
        read_bandit_log(str(tmp_path / "*.parquet"))
    assert (caught.value.file, caught.value.column) == (str(tmp_path / "2.parquet"), "age")
    with pytest.raises(DataError, match="no file matches"):
        read_bandit_log(str(tmp_path / "*.csv"))
    with pytest.raises(ConfigError, match="Did you mean 'dsjson'"):
        read_bandit_log(tmp_path / "1.parquet", format="dsjsn")


def feedback() -> dict[str, Any]:
    pi_b = np.array([[0.25, 0.75], [0.5, 0.5], [0.1, 0.9]])[:, :, None]
    return {
        "n_rounds": 3,
        "n_actions": 2,
        "context": np.arange(6.0).reshape(3, 2),
        "action_context": np.eye(2),
        "action": np.array([1, 0, 1]),
        "position": None,
        "reward": np.array([0, 1, 1]),
        "expected_reward": np.full((3, 2), 0.5),
        "pi_b": pi_b,
        "pscore": np.array([0.75, 0.5, 0.9]),
    }


def test_obp_dictionary_and_npz(tmp_path: Path) -> None:
    path = tmp_path / "feedback.npz"
    np.savez(path, **feedback())  # None is stored as a pickled object
    in_memory, stored = read_bandit_log(feedback()), read_bandit_log(path)
    assert stored.table.equals(in_memory.table)
    assert stored.table.columns == [
        "action", "reward", "propensity", "context_0", "context_1", "candidates", "logging_probabilities",
    ]  # fmt: skip
    assert stored.table["context_1"].to_list() == [1, 3, 5]
    np.testing.assert_allclose(stored.logging_probabilities(slice(0, 3)), feedback()["pi_b"][:, :, 0])
    assert "pickled code: position" in stored.notes[0]
    for name, value, said in (
        ("pscore", None, "needs this array"),
        ("action", np.ones((3, 2)), "one value for each of"),
        ("pi_b", np.ones((3, 2, 3)), "a distribution for each round"),
    ):
        with pytest.raises(DataError, match=said) as caught:
            read_bandit_log({**feedback(), name: value}, format="obp")
        assert caught.value.column == name
    with pytest.raises(DataError, match=r"damaged or not an \.npz"):
        read_bandit_log(write(tmp_path, "text.npz", "hello"))


def test_obp_data_as_obp_makes_it() -> None:
    dataset = pytest.importorskip("obp.dataset")
    made = dataset.SyntheticBanditDataset(n_actions=4, reward_type="binary", random_state=1)
    given = made.obtain_batch_bandit_feedback(n_rounds=200)
    log = read_bandit_log(given)
    np.testing.assert_array_equal(log.reward, given["reward"])
    np.testing.assert_array_equal(log.propensity, given["pscore"])
    np.testing.assert_array_equal(log.action_index, given["action"])
    np.testing.assert_allclose(log.logging_probabilities(slice(0, 200)), given["pi_b"][:, :, 0])


OPEN_BANDIT = """,timestamp,item_id,position,click,propensity_score,user_feature_0,user-item_affinity_0
0,2019-11-24 00:03:13.442536+00:00,14,3,0,0.0294,cef,0.5
1,2019-11-24 00:03:36.705207+00:00,10,1,1,0.25,abc,0.0
"""


def test_open_bandit_csv(tmp_path: Path) -> None:
    path = write(tmp_path, "men.csv", OPEN_BANDIT)
    assert detect(path).name == "open-bandit"
    table = read_bandit_log(path).table
    assert table.columns == [
        "timestamp", "action", "position", "reward", "propensity", "user_feature_0", "user-item_affinity_0",
    ]  # fmt: skip
    assert table.row(0) == (pytest.approx(1574553793.442536), 14, 2, 0.0, 0.0294, "cef", 0.5)
    with pytest.raises(DataError, match="Open Bandit") as caught:
        read_bandit_log(write(tmp_path, "x.csv", "a,b\n1,2\n"), format="open-bandit")
    assert caught.value.column == "item_id"


def test_open_bandit_items_that_were_never_shown_are_candidates(tmp_path: Path) -> None:
    affinities = {f"user-item_affinity_{item}": [0.0, 0.5] for item in range(20)}
    table = pl.read_csv(OPEN_BANDIT.encode()).drop("user-item_affinity_0").with_columns(**{
        name: pl.Series(values) for name, values in affinities.items()
    })  # fmt: skip
    path = tmp_path / "men.csv"
    table.write_csv(path)
    log = read_bandit_log(path)
    assert log.actions is not None
    assert log.actions.to_list() == list(range(20))
    # An item without an affinity is one all the same.
    fewer = read_bandit_log(write(tmp_path, "fewer.csv", OPEN_BANDIT))
    assert fewer.actions is not None
    assert fewer.actions.to_list() == [10, 14]


def test_open_bandit_sample_of_obp() -> None:
    pytest.importorskip("obp")
    path = open_bandit._package() / "dataset" / "obd" / "bts" / "women" / "women.csv"
    log, source = read_bandit_log(path), open_bandit.read("women", "bts")
    own = log.table.sort("timestamp", maintain_order=True)
    for name in ("action", "position", "propensity", "reward", "user_feature_2"):
        np.testing.assert_array_equal(own[name].to_numpy(), source[name].to_numpy())
    assert log.reward.sum() == 46


def test_dsjson(tmp_path: Path) -> None:
    path = write(tmp_path, "events.json", DSJSON)
    assert detect(path).name == "dsjson"
    log = read_bandit_log(path)
    table = log.table
    assert table["event_id"].to_list() == ["e1", "e2"]
    assert table["timestamp"].to_list() == [1627552800.516, 1627552802.0]
    assert table["action"].to_list() == [1, 0]
    assert table["reward"].to_list() == [1.5, 0.0]
    assert str(table["reward"][1]) == "0.0"  # not -0.0
    assert table["propensity"].to_list() == [0.8, 0.25]
    assert table["candidates"].to_list() == [[1, 0, 2], [2, 0]]
    assert table["logging_probabilities"].to_list() == [[0.8, 0.1, 0.1], [0.75, 0.25]]
    assert table["p_drop"].to_list() == [0.5, 0.0]
    assert table["User.age"].to_list() == [31.0, 40.5]
    np.testing.assert_array_equal(log.action_index, [0, 1])
    assert not {"User._id", "tags"} & set(table.columns)
    # The second row ranks action 3 of a `_multi` of two: what describes its candidates is not known.
    assert "candidate_i.id" not in table.columns
    told = " ".join(log.notes)
    for said in (
        "1 (checkpoints)",
        "1 (rewards without a decision)",
        "1 (decisions never carried out",
        "1 - p_drop",
    ):
        assert said in told


def test_dsjson_candidate_features_are_in_the_order_of_the_candidates(tmp_path: Path) -> None:
    path = write(tmp_path, "events.dsjson", DSJSON.splitlines()[1])
    assert read_bandit_log(path).table["candidate_i.id"].to_list() == [["B", "A", "C"]]


def test_dsjson_files_with_other_features_are_one_log(tmp_path: Path) -> None:
    lines = DSJSON.splitlines()
    write(tmp_path, "1.json", lines[1])
    write(tmp_path, "2.json", lines[5].replace('"age":40.5', '"city":"Rome"'))
    table = read_bandit_log(str(tmp_path / "*.json")).table
    assert table["User.age"].to_list() == [31, None]
    assert table["User.city"].to_list() == [None, "Rome"]
    assert table["p_drop"].to_list() == [0.5, 0.0]


EVENT = '{"_label_cost":0,"_label_probability":0.5,"_label_Action":1,"a":[1,2],"p":[0.5,0.5]'
BAD_DSJSON = [
    ('{"_label_ca":{"cost":0.65,"pdf_value":6e-05,"action":185.1},"c":{}}', "continuous action"),
    ('{"_label_cost":1,"_outcomes":[{"_a":1,"_p":0.8}],"c":{}}', "mixed"),
    ('{"_label_cost":1,"_label_Action":1}', "`_label_probability` is missing"),
    ('{"_label_cost":1,"_label_probability":0.5,"_label_Action":0}', "count from 1"),
    (EVENT.replace("[0.5,0.5]", "[0.5]") + "}", "`p` does not have one probability"),
    (EVENT.replace("[1,2]", "[1,0]") + "}", "`a` is not a list"),
    (EVENT + ',"pdrop":1}', "`pdrop` is 1"),
    (EVENT, "not a JSON object"),
]


@pytest.mark.parametrize(("text", "said"), BAD_DSJSON)
def test_bad_dsjson_names_the_line(text: str, said: str, tmp_path: Path) -> None:
    path = write(tmp_path, "bad.dsjson", f"{DSJSON.splitlines()[1]}\n\n{text}\n")
    with pytest.raises(DataError, match=said) as caught:
        read_bandit_log(path)
    assert caught.value.file == str(path)
    assert "line 3" in str(caught.value)


PAGES = """[checkpoint]
{"_outcomes":[{"_label_cost":-1,"_id":"s1","_a":[1,0,2],"_p":[0.8,0.1,0.1],"_o":[]},{"_label_cost":0,"_a":[2,0],"_p":[0.6,0.4]}],\
"Timestamp":"2021-07-29T10:00:00Z","EventId":"e1","pdrop":0.5,"c":{"User":{"age":31},"_multi":[{"id":"A"},{"id":"B"},{"id":"C"}],"_slots":[{},{}]}}
{"_outcomes":[{"_label_cost":0,"_a":0,"_p":1}],"Timestamp":"2021-07-29T10:00:01Z","EventId":"e2","c":{"User":{"age":40},"_multi":[{"id":"A"}]}}
"""


def test_dsjson_pages_are_slots(tmp_path: Path) -> None:
    path = write(tmp_path, "pages.json", PAGES)
    assert detect(path).name == "dsjson"
    table = read_bandit_log(path).table
    assert table["slate_id"].to_list() == ["e1", "e1", "e2"]
    assert table["position"].to_list() == [1, 2, 1]
    assert table["action"].to_list() == [1, 2, 0]
    assert table["propensity"].to_list() == [0.8, 0.6, 1.0]
    assert table["reward"].to_list() == [1.0, 0.0, 0.0]
    assert table["candidates"].to_list() == [[1, 0, 2], [2, 0], [0]]
    assert table["logging_probabilities"].to_list() == [[0.8, 0.1, 0.1], [0.6, 0.4], [1.0]]
    assert table["candidate_id"].to_list() == [["B", "A", "C"], ["C", "A"], ["A"]]
    assert table["User.age"].to_list() == [31, 31, 40]
    assert table["p_drop"].to_list() == [0.5, 0.5, 0.0]


def test_dsjson_pages_whose_candidates_are_not_told(tmp_path: Path) -> None:
    path = write(tmp_path, "pages.json", PAGES.replace("[2,0]", "2").replace("[0.6,0.4]", "0.6"))
    table = read_bandit_log(path).table
    assert table["propensity"].to_list() == [0.8, 0.6, 1.0]
    # The context tells of three actions, and the one of the slot above is gone.
    assert table["candidates"].to_list() == [[1, 0, 2], [0, 2], [0]]
    assert table["candidate_id"].to_list() == [["B", "A", "C"], ["A", "C"], ["A"]]
    assert "logging_probabilities" not in table.columns
    text = path.read_text()
    path.write_text(text.replace('"_slots":[{},{}]', '"_slots":[{},{"_inc":[2]}]'))
    assert read_bandit_log(path).table["candidates"].to_list() == [[1, 0, 2], [2], [0]]
    path.write_text(text.replace('"_a":2', '"_a":1'))
    with pytest.raises(DataError, match="slot 2 has action 1, which is not available to it"):
        read_bandit_log(path)
    path.write_text(re.sub(r'"_multi":\[.*?\],?', "", text).replace(",}", "}"))
    assert "candidates" not in read_bandit_log(path).table.columns


def test_a_page_whose_slots_name_single_actions_is_valued_by_what_was_left(tmp_path: Path) -> None:
    """A uniform policy chooses among 3 actions at the top and 2 below; all of the log's were 3 for both."""
    page = json.loads(PAGES.splitlines()[1].replace("[1,0,2]", "1").replace("[0.8,0.1,0.1]", "0.8"))
    page["_outcomes"][1] |= {"_a": 2, "_p": 0.6}
    path = write(tmp_path, "pages.json", json.dumps(page) + "\n" + json.dumps({**page, "EventId": "e2"}))
    log = read_bandit_log(path)
    assert log.table["candidates"].to_list() == [[0, 1, 2], [0, 2]] * 2
    (found,) = evaluate(log, [UniformPolicy()], ["ips"]).policies
    assert found.weights.mean == pytest.approx((1 / 3 / 0.8 + 1 / 2 / 0.6) / 2)


def test_actions_that_the_context_describes_are_candidates(tmp_path: Path) -> None:
    """Without `a`, the list of them in the order of the policy."""
    lines = [
        {"_label_cost": -1, "_label_probability": 0.5, "_label_Action": 2, "EventId": f"e{row}",
         "c": {"_multi": [{"id": name} for name in "ABC"]}}
        for row in range(3)
    ]  # fmt: skip
    path = write(tmp_path, "log.json", "\n".join(map(json.dumps, lines)))
    table = read_bandit_log(path).table
    assert table["candidates"].to_list() == [[0, 1, 2]] * 3
    assert table["candidate_id"].to_list() == [["A", "B", "C"]] * 3


@pytest.mark.parametrize("drop", ["0.5", True, -0.1, 1, 1.0000001])
def test_what_is_no_probability_of_a_drop_is_refused_by_its_name(tmp_path: Path, drop: object) -> None:
    line = {"_label_cost": -1, "_label_probability": 0.5, "_label_Action": 1, "a": [1, 2], "pdrop": drop}
    path = write(tmp_path, "log.json", json.dumps(line))
    with pytest.raises(DataError, match="`pdrop` is"):
        read_bandit_log(path)


@pytest.mark.parametrize("saved", [False, True])
def test_actions_that_obp_declares_are_candidates_whether_or_not_logged(tmp_path: Path, saved: bool) -> None:
    """A uniform policy chooses among 80 actions though 44 were logged."""
    rng = np.random.default_rng(0)
    feedback = {
        "n_rounds": 400,
        "n_actions": 80,
        "action": rng.integers(44, size=400),
        "reward": rng.integers(2, size=400).astype(float),
        "pscore": np.full(400, 1 / 80),
    }
    source: object = feedback
    if saved:
        np.savez(tmp_path / "feedback.npz", **feedback)
        source = tmp_path / "feedback.npz"
    log = read_bandit_log(source)  # type: ignore[arg-type]
    assert log.width == 80
    found = evaluate(log, [UniformPolicy()], ["ips", "dm"])
    assert found.policies[0].weights.mean == pytest.approx(1)
    assert any("all 80 actions of the log" in note for note in found.notes)
    with pytest.raises(DataError, match=r"action \d+ is not among the actions 0 to 39 \(n_actions\)"):
        read_bandit_log({**feedback, "n_actions": 40})


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[0.8,0.1,0.1]", "[0.8,0.2]", "slot 1 does not have one `_p`"),
        ('"_a":[2,0]', '"_a":[2,-1]', "slot 2 does not have one `_p`"),
        ('"_label_cost":-1,', "", "`_label_cost` is missing"),
        (
            '{"_outcomes":[{"_label_cost":-1',
            '{"_label_cost":1,"_outcomes":[{"_label_cost":-1',
            "one cost for all",
        ),
        ('"_p":[0.6,0.4]', '"_p":["x",0.4]', "`_p` is missing or not a number"),
        ('"_outcomes":[{"_label_cost":0,"_a":0,"_p":1}]', '"_outcomes":[]', "not a list of slots"),
    ],
)
def test_bad_dsjson_pages_name_the_line(old: str, new: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"line [23]: .*{said}"):
        read_bandit_log(write(tmp_path, "pages.json", PAGES.replace(old, new)))


def test_criteo(tmp_path: Path) -> None:
    path = tmp_path / "banners.txt.gz"
    path.write_bytes(gzip.compress(CRITEO.encode()))
    assert detect(path).name == "criteo"
    log = read_bandit_log(path)
    table = log.table
    assert table["event_id"].to_list() == ["7", "8", "10"]
    np.testing.assert_allclose(log.propensity, [0.25, 0.4, 1.0])
    assert log.reward.tolist() == [1, 0, 0]
    np.testing.assert_array_equal(log.action_index, 0)  # the first candidate is the one that was shown
    first, second, _ = table["candidates"].to_list()
    assert second == [first[1], f"{first[1]}-2", first[0]]
    assert table["feature_9"].to_list() == ["a", None, None]
    assert table["candidate_feature_12"].to_list() == [["x|y", ""], ["", "", "x|y"], [""]]
    told = " ".join(log.notes)
    for said in ("read as 1/p", "one in ten", "1 (more than one slot)"):
        assert said in told


def test_criteo_propensities_that_are_no_inverses(tmp_path: Path) -> None:
    text = CRITEO.replace(" 4.0 ", " 0.25 ").replace(" 2.5 ", " 0.4 ").replace(" 30 ", " 0.03 ")
    log = read_bandit_log(write(tmp_path, "b.txt", text))
    np.testing.assert_allclose(log.propensity, [0.25, 0.4, 1.0])
    assert "read as p (all" in log.notes[0]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (" 4.0 ", " 0.25 ", "neither propensities nor their inverses"),
        (" 4.0 ", " 0 ", "line 1 .*above 0"),
        (" 1 2 1:300", " 1 4 1:300", "line 1 .*2 candidates follow"),
        ("example 8: 5fb 0 2.5", "example 8:", "line 4 .*a header is"),
        ("0 exid:7 11:6", "0 11:6", "line 3 .*a candidate's line"),
        ("example 7: 5fa 1 4.0 1 2 1:300 2:250 9:a\n", "", "line 1 .*a header"),
    ],
)
def test_bad_criteo_names_the_line(old: str, new: str, said: str, tmp_path: Path) -> None:
    path = write(tmp_path, "b.txt", CRITEO.replace(old, new, 1))
    with pytest.raises(DataError, match=said):
        read_bandit_log(path, format="criteo")


def test_only_slates_are_no_log(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no banner has a single slot"):
        read_bandit_log(write(tmp_path, "b.txt", "\n".join(CRITEO.splitlines()[7:10])))


def test_detection_does_not_mistake_columns_for_dsjson(tmp_path: Path) -> None:
    row = {"action": 1, "propensity": 0.5, "reward": 1, "note": '"_label_cost"'}
    path = write(tmp_path, "log.jsonl", "\n".join(json.dumps(row) for _ in range(2)))
    assert detect(path).name == "table"
    assert read_log(path)[0].table["note"].to_list() == ['"_label_cost"'] * 2


def test_ids_keep_their_zeros_and_meet_their_candidates_in_whatever_file(tmp_path: Path) -> None:
    days = [("8", "[7, 8]"), ("007", "['007', '8']"), ("7", "7|8")]
    for number, (action, candidates) in enumerate(days):
        text = f'action,propensity,reward,candidates,user_id\n{action},0.5,1,"{candidates}",0{number}\n'
        write(tmp_path, f"day{number}.csv", text)
    log = read_bandit_log(str(tmp_path / "*.csv"))
    assert log.table["action"].to_list() == ["8", "007", "7"]
    assert log.table["candidates"].to_list() == [["7", "8"], ["007", "8"], ["7", "8"]]
    assert log.table["user_id"].to_list() == ["00", "01", "02"]
    digits = read_bandit_log(tmp_path / "day0.csv").table
    assert (digits["action"].to_list(), digits["candidates"].to_list()) == ([8], [[7, 8]])


def test_a_comma_within_a_candidate_is_none_between_two(tmp_path: Path) -> None:
    rows = 'action,propensity,reward,candidates\n"b, c",0.25,1,"[""a"", ""b, c"", ""d"", ""e""]"\n'
    assert read_bandit_log(write(tmp_path, "log.csv", rows)).width == 4


def test_probabilities_of_32_bits_may_lie_a_hair_above_one() -> None:
    table = TABLE.drop("candidates", "logging_probabilities", "candidate_colour")
    log = read_bandit_log(table.with_columns(propensity=pl.Series([0.5, 0.25, 1.0000001])))
    assert log.propensity[2] == 1.0
    with pytest.raises(DataError, match=r"1\.00001 is not in \(0, 1\]"):
        read_bandit_log(table.with_columns(propensity=pl.lit(1.00001)))


@pytest.mark.parametrize("format", ["dsjson", "table"])
def test_broken_lines_are_left_out_where_that_is_asked_for(format: str, tmp_path: Path) -> None:
    sound = DSJSON if format == "dsjson" else TABLE.write_ndjson()
    broken = '{"_label_cost":-1,"_label_probab' if format == "dsjson" else '{"action": 3, "prop'
    first, *rest = sound.splitlines()
    path = write(tmp_path, "log.jsonl", "\n".join([first, broken, *rest]))
    with pytest.raises(DataError, match="line 2"):
        read_bandit_log(path)
    log = read_bandit_log(path, skip_bad_lines=True)
    assert log.table.equals(read_bandit_log(write(tmp_path, "sound.jsonl", sound)).table)
    assert f"Broken lines left out: 1 of {path} (the first is line 2)." in log.notes
