from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

from ctrkit.metrics import reliability
from ctrkit.reports import Figure, Report, Table
from ctrkit.reports.cells import Interval
from ctrkit.reports.document import notebook_html, to_html
from ctrkit.reports.figures import forest_plot, reliability_diagram, training_curve

VOID = {"meta", "br", "path", "use", "rect", "image", "circle", "line", "ellipse", "polygon"}


class Page(HTMLParser):
    """Collects text and outside references, and checks that tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [v for name, v in attrs if name in ("src", "href") and v]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def figures() -> list[Figure]:
    rng = np.random.default_rng(0)
    p = rng.random(500)
    bins = reliability((rng.random(500) < p).astype(float), p)
    events = [{"epoch": e, "training_loss": 1 / e, "validation_loss": 1.1 / e} for e in (1.0, 2.0)]
    row = {"label": "ips", "value": 0.04, "low": 0.03, "high": 0.05}
    return [
        training_curve(events, 2, "epoch"),
        reliability_diagram("r", "click", bins, bins),
        forest_plot("f", {"value": 0.03, "low": 0.02, "high": 0.04}, [row], 0.035),
    ]


@pytest.mark.parametrize("index", range(3))
def test_figures_are_the_same_bytes_for_the_same_numbers(index: int) -> None:
    first, second = figures()[index], figures()[index]
    assert first.svg == second.svg
    assert "<svg" in first.svg


def test_a_page_is_whole_escapes_and_needs_nothing_from_outside() -> None:
    table = Table("t <b>", ("a", "b"), (("x & y", "<script>"),))
    report = Report("R", "answer <i>", (table,), ("note",), (("more", "train/report.html"),))
    page = Page()
    text = to_html(report, figures())
    page.feed(text)
    assert page.open == []
    shown = "".join(page.text)
    for piece in ("t <b>", "x & y", "<script>", "answer <i>", "note", "more"):
        assert piece in shown
    assert "<script" not in text
    outside = [r for r in page.references if not r.startswith("#")]
    assert outside == ["train/report.html"]


def test_a_part_of_a_notebook_is_whole_and_escapes() -> None:
    table = Table("t <b>", ("a", "<i>"), (("<script>", 0.25), ("y", Interval(1.5, 1, 2))))
    report = Report("R <u>", "answer <i>\nmore", (table,), ("note <p>",), details=(Table("d", ("x",), ()),))
    page = Page()
    text = notebook_html(report)
    page.feed(text)
    assert page.open == []
    assert page.references == []
    shown = "".join(page.text)
    for piece in ("R <u>", "t <b>", "<i>", "<script>", "0.25", "1.5 [1, 2]", "answer <i>", "note <p>"):
        assert piece in shown
    assert "<script" not in text
    assert "<body" not in text, "it is a part of a page that is not ours"
    for rule in text[text.index("<style>") : text.index("</style>")].split("}"):
        selectors = rule.rpartition("{")[0].rpartition("{")[2]
        assert all(".ctrkit" in one for one in selectors.split(",") if one.strip(" \n<style>")), rule
