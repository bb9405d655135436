"""Formats of bandit logs: what a file holds is told by its content, and many files are one log.

`FORMATS` names them; `read_log` reads a source in whichever it is.
"""

from ctrkit.ope.formats.base import Format, LogTable
from ctrkit.ope.formats.detect import FORMATS, detect, read_log

__all__ = ["FORMATS", "Format", "LogTable", "detect", "read_log"]
