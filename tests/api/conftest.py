"""Runs of commands: of each kind of figure a test makes one, and renders it only where it is marked so.
All of them would take longer than most of the runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import CodeType
from typing import TYPE_CHECKING, Any, TextIO

import pytest

if TYPE_CHECKING:
    from ctrkit.reports import Figure

BLANK = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"></svg>'
_made: dict[CodeType, Figure] = {}


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

    def save(canvas: Canvas, text: TextIO, **settings: Any) -> None:
        text.write(BLANK)

    def first_of_its_kind(what: str, draw: Any, tell: Callable[[str], None]) -> Figure | None:
        """Later ones are the first again, under the name that is their first argument, if one is."""
        kind, given = getattr(draw, "func", draw).__code__, next(iter(getattr(draw, "args", ())), None)
        if kind in _made:
            return replace(_made[kind], name=given) if isinstance(given, str) else _made[kind]
        figure = attempt(what, draw, tell)
        if figure is not None:
            _made[kind] = figure
        return figure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ctrkit.api.run_folder.attempt", first_of_its_kind)
        if request.node.get_closest_marker("rendered") is None:
            patch.setattr(Canvas, "savefig", save)
            patch.setattr(Canvas, "findobj", lambda *_: [])
        yield
