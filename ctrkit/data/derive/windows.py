"""Windows on events: lists that are parts of one column, and so need not be written out for each row."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from ctrkit.arrays import Indices
from ctrkit.data.derive.known import Newest


@dataclass(frozen=True)
class Windows:
    """A column of lists, the newest events of each row.

    Attributes:
        values: the values of all events, [m].
        newest: which of them each row lists.
    """

    values: pl.Series
    newest: Newest

    def lists(self) -> pl.Series:
        """The column, a list for each row."""
        return list_series(self.values.gather(self.newest.indices), self.newest.offsets)


class EventFiles:
    """The events of columns of lists, once, in files. Rows then have pointers: ends and lengths of windows.

    Args:
        folder: takes the files.
        names: the columns of lists that become pointers, if steps make them of events.
    """

    def __init__(self, folder: Path, names: Collection[str]) -> None:
        self.folder, self.names = folder, tuple(names)
        self._files: dict[str, list[Path]] = {}
        self._sizes: dict[str, int] = {}

    def pointers(self, name: str, windows: Windows) -> pl.Series:
        """Write the events that windows show; the pointers of their rows."""
        seen, ends = windows.newest.seen
        before, files = self._sizes.get(name, 0), self._files.setdefault(name, [])
        self.folder.mkdir(exist_ok=True)
        files.append(self.folder / f"{self.names.index(name)} {len(files)}.parquet")
        plain(windows.values.gather(seen)).alias("event").to_frame().write_parquet(files[-1])
        self._sizes[name] = before + seen.size
        lengths = windows.newest.lengths.astype(np.int32)
        return pl.DataFrame({"end": ends + before, "length": lengths}).to_struct(name)

    def columns(self) -> Mapping[str, pl.Series]:
        """Column of lists -> the values of all its events."""
        return {
            name: pl.read_parquet(files, glob=False)["event"].rechunk() for name, files in self._files.items()
        }


def lists_at(pointers: pl.Series, events: pl.Series) -> pl.Series:
    """The lists of rows.

    Args:
        pointers: their ends and lengths, as `EventFiles.pointers` makes them.
        events: the values of all events.
    """
    ends, lengths = (pointers.struct.field(name).to_numpy() for name in ("end", "length"))
    return Windows(events, Newest(ends, lengths)).lists().alias(pointers.name)


def plain(values: pl.Series) -> pl.Series:
    """Values without a dictionary: text in place of categories."""
    return values.cast(pl.String) if isinstance(values.dtype, pl.Categorical | pl.Enum) else values


def list_series(values: pl.Series, offsets: Indices) -> pl.Series:
    """A column of lists.

    Args:
        values: the values of all lists, one after another.
        offsets: where each list begins, and the number of values, [n + 1].
    """
    values = plain(values)
    listed = pa.LargeListArray.from_arrays(pa.array(offsets), values.to_arrow())
    return pl.Series(listed, dtype=pl.List(values.dtype))
