"""cross: the values of two or more columns as one id."""

from __future__ import annotations

import polars as pl
from pydantic import Field

from ctrkit.data.derive.base import Names, SomeNames, Step
from ctrkit.data.derive.part import Part
from ctrkit.settings import checked


@checked
class Cross(Step):
    """The values of columns as one id, `left|right`, such as user × item; missing where one is missing.

    Different values give different ids: a `|` in a value is written `\\|`, and a `\\` twice.
    """

    name = "cross"
    of: SomeNames = Field(description="the columns")
    makes: str = Field(description="the new column")

    @property
    def new_columns(self) -> Names:
        return (self.makes,)

    @property
    def reads(self) -> Names:
        return self.of

    @property
    def ids(self) -> Names:
        return self.of

    def derive(self, part: Part) -> list[pl.Series]:
        texts = [
            text.str.replace_all("\\", "\\\\", literal=True).str.replace_all("|", "\\|", literal=True)
            for text in (pl.col(name).cast(pl.String) for name in self.of)
        ]
        return [part.rows.select(pl.concat_str(texts, separator="|").alias(self.makes)).to_series()]
