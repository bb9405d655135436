"""Runs of commands: of each kind of figure a test makes one, and renders it only where it is marked so.
All of them would take longer than most of the runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any, TextIO

import pytest

BLANK = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"></svg>'
_made: dict[CodeType, str] = {}  # the name of the first figure of a kind


@pytest.fixture(autouse=True)
def other_figures() -> None:
    """Each test makes figures of its own."""
    _made.clear()


@pytest.fixture(autouse=True, scope="module")
def blank_figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every line of ours runs; what matplotlib makes of a figure is seen by `tests/reports` and modules
    with the mark `rendered`."""
    from matplotlib.figure import Figure as Canvas

    from ctrkit.errors import attempt
    from ctrkit.reports import Figure

    def save(canvas: Canvas, text: TextIO, **settings: Any) -> None:
        text.write(BLANK)

    def first_of_its_kind(what: str, draw: Any, tell: Callable[[str], None]) -> Figure | None:
        """Later ones are blank, under the name that is their first argument or that all of the kind have."""
        kind, given = getattr(draw, "func", draw).__code__, next(iter(getattr(draw, "args", ())), None)
        if kind in _made:
            return Figure(given if isinstance(given, str) else _made[kind], "", BLANK)
        figure = attempt(what, draw, tell)
        if figure is not None:
            _made[kind] = figure.name
        return figure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ctrkit.api.run_folder.attempt", first_of_its_kind)
        if request.node.get_closest_marker("rendered") is None:
            patch.setattr(Canvas, "savefig", save)
            patch.setattr(Canvas, "findobj", lambda *_: [])
        yield
