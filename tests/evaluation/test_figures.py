"""The figures of an evaluation: well-formed, the same from the same numbers, and safe from any label."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np

from ctrkit.evaluation import Drift, EvaluationSettings, LabelledRows, Slice, evaluate_task
from ctrkit.metrics import MetricInterval
from ctrkit.reports import Figure
from ctrkit.reports.evaluation_figures import (
    difference_figure,
    drift_figure,
    field_heat_map,
    gain_figure,
    reliability_figure,
    score_figure,
    slice_figure,
)

# Dollar signs would be formulas, angle brackets markup, and the font knows no Chinese.
ODD = ("$5 & $x_", "<b>", "广告", "a name that is much too long for its cell")


def around(value: float) -> MetricInterval:
    return MetricInterval(value, 0.8 * value, 1.2 * value, 0.95, "linearised")


def figures(rows: LabelledRows) -> list[Figure]:
    found = evaluate_task("click", rows, None, EvaluationSettings(draws=20))
    values = [
        (name, around(value), value > 1) for name, value in zip(ODD, (0.0, 0.7, 1.3, np.inf), strict=True)
    ]
    parts = [Slice(name, 10, 1, {"auc": around(0.7), "pcoc": None}) for name in ODD]
    drifts = [Drift(name, 0.1 * i, 0.01, "watch", "x", 0.1, 0.2) for i, name in enumerate(ODD)]
    models = ("a.pt", "b.pt")
    return [
        reliability_figure("r", "click", dict(zip(models, found.diagrams, strict=True))),
        gain_figure("g", "click", dict(zip(models, found.gains, strict=True))),
        score_figure("s", "click", found.scores),
        field_heat_map("f", "click", {"field $1": values, "device": values[:1], "empty": []}),
        slice_figure("p", "click", "item popularity", parts, ["auc", "pcoc"]),
        drift_figure(drifts),
        difference_figure(
            "d",
            "click",
            [("auc", around(0.1)), ("log_loss", MetricInterval(0, 0, 0, 0.95, "bootstrap"))],
            "this artifact minus other artifact",
        ),
    ]


def test_figures_are_whole_repeatable_and_take_any_label(true_rows: Callable[..., LabelledRows]) -> None:
    rows = true_rows(1500)
    drawn = figures(rows)
    assert [figure.svg for figure in drawn] == [figure.svg for figure in figures(rows)]
    for figure in drawn:
        assert ElementTree.fromstring(figure.svg).tag.endswith("svg")
        assert figure.caption.endswith(".")
    heat = "".join(ElementTree.fromstring(drawn[3].svg).itertext())
    for text in ("$5 & $x_", "<b>", "广告", "1.30*", "inf*"):
        assert text in heat
