"""What a person reads of a run: tables, figures and one self-contained HTML page."""

from ctrkit.reports.document import Drawing, Drawings, Figure, Report
from ctrkit.reports.tables import Table

__all__ = ["Drawing", "Drawings", "Figure", "Report", "Table"]
