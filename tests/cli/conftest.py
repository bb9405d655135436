"""Commands of the terminal make figures as those of Python do in the tests."""

from tests.api.conftest import blank_figures, other_figures

__all__ = ["blank_figures", "other_figures"]
