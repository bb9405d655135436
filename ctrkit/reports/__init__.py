"""What a person reads of a run: tables, figures and one self-contained HTML page."""

from ctrkit.reports.document import DrawFigure, Drawings, Figure, Report
from ctrkit.reports.tables import Table

__all__ = ["DrawFigure", "Drawings", "Figure", "Report", "Table"]
