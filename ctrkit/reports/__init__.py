"""What a person reads of a run: tables, figures and one self-contained HTML page."""

from ctrkit.reports.document import Figure, Report, Table

__all__ = ["Figure", "Report", "Table"]
