"""The text of a value, written down by hand, and that there is one place which makes it."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ctrkit import metrics
from ctrkit.reports import Table
from ctrkit.reports.cells import Change, Interval, Share, Value, interval, share, text

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (float("-inf"), "–"),
        ("dr", "dr"),
        ("a\x1b", r"a\x1b"),
        (0, "0"),
        (7800, "7,800"),
        (-12_345_678, "-12,345,678"),
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (0.404449, "0.4044"),
        (-0.03787, "-0.03787"),
        (0.00001234, "1.234e-05"),
        (53.968, "53.97"),
        (999.96, "1,000"),
        (1000.49, "1,000"),
        (307_750.6, "307,751"),
        (1e15, "1e+15"),
        (Share(0.31694), "31.7%"),
        (Share(1), "100%"),
        (Share(-0.000314), "-0.0314%"),
        (Interval(1.033384, 0.911264, 1.17187), "1.033 [0.911, 1.17]"),
        (Interval(1234.5, -0.5, 20_000.2), "1,234 [-0.5, 20,000]"),
        (Interval(999.96, 999.6, 1000.49), "1,000 [1,000, 1,000]"),
        (Interval(3, 2.5, 3.5), "3 [2.5, 3.5]"),
        (Interval(0.5, None, 0.75), "0.5 [–, 0.75]"),
        (Interval(0.5, None, float("inf")), "0.5"),
        (Interval(float("nan"), 0.1, 0.2), "–"),
        (metrics.MetricInterval(0.0404, 0.0337, 0.0498, 0.95, "linearised"), "0.0404 [0.0337, 0.0498]"),
        (share(Interval(0.5, 0.25, None)), "50% [25%, –]"),
        (share(Interval(0.31694, 0.25123, 0.40001)), "31.7% [25.1%, 40%]"),
        (share(0.25), "25%"),
        (Change(0.28194), "+0.2819"),
        (Change(-0.28194), "-0.2819"),
        (Change(0.0), "0"),
        (share(None), "–"),
        (interval({"value": 0.5, "low": 0.4, "high": 0.6, "method": "bound"}), "0.5 [0.4, 0.6]"),
        (interval({"value": None, "low": None, "high": None}), "–"),
        (interval(None), "–"),
    ],
)
def test_every_kind_of_value_has_one_format(value: Value, shown: str) -> None:
    assert text(value) == shown


def test_a_frame_holds_the_numbers() -> None:
    rows = (
        ("a", 3, 4, 0.5, Interval(1.5, 1.25, 1.75), Share(0.031), "x"),
        ("b", 5, None, None, None, None, None),
        ("c", 6, 7, float("nan"), 2.5, 1.0, "z"),
    )
    frame = Table("t", ("name", "rows", "some", "auc", "pcoc", "share", "why"), rows).to_pandas()
    expected = pd.DataFrame(
        {
            "name": ["a", "b", "c"],
            "rows": [3, 5, 6],
            "some": pd.array([4, None, 7], dtype="Int64"),
            "auc": [0.5, np.nan, np.nan],
            "pcoc": [1.5, np.nan, 2.5],
            "pcoc_low": [1.25, np.nan, np.nan],
            "pcoc_high": [1.75, np.nan, np.nan],
            "share": [0.031, np.nan, 1.0],
            "why": ["x", None, "z"],
        }
    )
    pd.testing.assert_frame_equal(frame, expected)


def test_a_frame_of_no_rows_or_of_names_given_twice_has_all_columns() -> None:
    assert list(Table("t", ("a", "b"), ()).to_pandas().columns) == ["a", "b"]
    assert Table("t", ("a", "a"), ((1, 2.5),)).to_pandas().to_numpy().tolist() == [[1.0, 2.5]]


def test_no_other_module_writes_an_interval() -> None:
    """In a string `{value} [{low}, {high}]`, a value follows an opening bracket that stands apart."""
    for room in ("ctrkit/api", "ctrkit/reports", "cli"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr) and path.name != "cells.py":
                    for before, part in zip(node.values, node.values[1:], strict=False):
                        opened = isinstance(before, ast.Constant) and str(before.value).endswith(" [")
                        assert not (opened and isinstance(part, ast.FormattedValue)), (path, node.lineno)
