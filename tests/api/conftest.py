"""Runs of commands: their figures are made but not rendered, which takes longer than most of the runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TextIO

import pytest

BLANK = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"></svg>'


@pytest.fixture(autouse=True, scope="module")
def blank_figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every line of ours runs; what matplotlib makes of a figure is seen by `tests/reports` and modules
    with the mark `rendered`."""
    from matplotlib.figure import Figure

    def save(figure: Figure, text: TextIO, **settings: Any) -> None:
        text.write(BLANK)

    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("rendered") is None:
            patch.setattr(Figure, "savefig", save)
            patch.setattr(Figure, "findobj", lambda *_: [])
        yield
