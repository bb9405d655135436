"""What is in a table that nobody has described: what its columns are, and a first config to train on it."""

from ctrkit.inspection.columns import InspectedColumn, inspected
from ctrkit.inspection.first_config import first_config
from ctrkit.inspection.proposals import proposed
from ctrkit.inspection.sample import spread_rows

__all__ = ["InspectedColumn", "first_config", "inspected", "proposed", "spread_rows"]
