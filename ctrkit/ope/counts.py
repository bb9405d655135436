"""Logs from which rows were dropped at random: each row that is left stands for several decisions."""

from __future__ import annotations

import numpy as np
import polars as pl

from ctrkit.ope.moments import Floats


def decisions(table: pl.DataFrame) -> Floats | None:
    """How many decisions each row stands for, 1 / (1 - p_drop), [N]; None where none were dropped."""
    return np.asarray(1 / (1 - table["p_drop"].to_numpy())) if "p_drop" in table.columns else None
