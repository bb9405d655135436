"""Formats of bandit logs. A file's format is recognised by its content; many files make one log.

`FORMATS` lists the formats; `read_log` reads a source of any of them.
"""

from ctrkit.ope.formats.base import Format, LogTable
from ctrkit.ope.formats.detect import FORMATS, detect, read_log

__all__ = ["FORMATS", "Format", "LogTable", "detect", "read_log"]
