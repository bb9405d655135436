"""Criteo's counterfactual test-bed (Lefortier et al. 2016, arXiv:1612.00367): banners filled with products.

An impression is a header and one line a candidate product, separated by blanks:

    example ID: HASH CLICKED PROPENSITY SLOTS CANDIDATES feature:value ...
    CLICKED exid:ID feature:value ...

The first SLOTS candidates are the products that were shown. Only banners of one slot are read: a larger
banner has a single propensity for its whole slate, and slates need other estimators.

Whether the propensity column holds p or 1/p depends on the release. The test-bed's page calls it the
propensity, and the published parser divides by it. The scorer of the NIPS 2017 challenge, which has its own
data from Criteo, takes 1/p by default. The reader decides by the values: p is at most 1, and 1/p at least 1.
A file with values on both sides of 1 is refused.

The published data hold all banners with a click and one in ten of those without. A file does not say whether
it was thinned in this way. The reader keeps the rows as they are, and a note says so.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import polars as pl

from ctrkit.errors import DataError
from ctrkit.ope.formats.base import Format, LogTable, check_file
from ctrkit.tables import lines_of

_FIELDS = 7
_THINNED = (
    "The published Criteo data keep only one in ten of the banners without a click. If this log is thinned "
    "in that way, its rewards are about ten times too high, and no estimator here corrects that."
)


@dataclass(frozen=True)
class _Banner:
    line: int
    example: str
    clicked: float
    propensity: float
    slots: int
    context: dict[str, str]
    products: list[str]


def read(source: str | os.PathLike[str], skip_bad_lines: bool = False) -> LogTable:
    """Read one file, gzip-compressed or not.

    Products have no ids, so a product's id is a hash of its features. Where two candidates of a banner have
    the same features, the later one gets a number. A feature of the banner becomes a text column such as
    `feature_7`; several values of a feature are separated by `|`. A feature of the products becomes a list
    column such as `candidate_feature_12`.

    Raises:
        DataError: a line does not follow the format, propensities lie on both sides of 1, or no banner has a
            single slot.
    """
    path = Path(source)
    banners, larger = [], 0
    for banner in _banners(path):
        if banner.slots == 1:
            banners.append(banner)
        else:
            larger += 1
    if not banners:
        raise DataError(
            "no banner has a single slot", file=path, hint="Give banners of one slot: slates are not read"
        )
    propensity, inverse = _propensities(banners, path)
    ids = [_ids(banner.products) for banner in banners]
    parsed = [[_features(product) for product in banner.products] for banner in banners]
    of_products = sorted({name for products in parsed for one in products for name in one}, key=_number)
    of_banners = sorted({name for banner in banners for name in banner.context}, key=_number)
    table = pl.DataFrame(
        {
            "event_id": [banner.example for banner in banners],
            "action": [names[0] for names in ids],
            "propensity": propensity,
            "reward": [banner.clicked for banner in banners],
            "candidates": ids,
            **{f"feature_{name}": [banner.context.get(name) for banner in banners] for name in of_banners},
            **{
                f"candidate_feature_{name}": [[one.get(name, "") for one in products] for products in parsed]
                for name in of_products
            },
        },
        schema_overrides={f"feature_{name}": pl.String for name in of_banners},
    )
    column = "1/p (all values are at least 1)" if inverse else "p (all values are at most 1)"
    notes = [f"The propensity column of the Criteo log is read as {column}.", _THINNED]
    if larger:
        notes.append(f"Banners left out: {larger:,} (more than one slot).")
    return LogTable(table, os.fspath(path), tuple(notes))


def _propensities(banners: list[_Banner], path: Path) -> tuple[list[float], bool]:
    """The propensities, and whether the file holds their inverses."""
    values = np.array([banner.propensity for banner in banners])
    if (values > 1).any() and (values < 1).any():
        above = int(np.argmax(values > 1))
        raise DataError(
            f"{values[above]:g} (line {banners[above].line + 1}) is above 1 and others are below: the "
            "column holds neither propensities nor their inverses",
            file=path,
            column="propensity",
            row=above,
            hint="Store p in all rows, or 1/p in all rows",
        )
    inverse = bool((values > 1).any())
    return (1 / values if inverse else values).tolist(), inverse


def _banners(path: Path) -> Iterator[_Banner]:
    """The impressions of a file, one after another."""
    header: tuple[int, list[str]] | None = None
    products: list[str] = []
    check_file(path)
    for line, text in lines_of(path):
        if text.startswith("example "):
            if header is not None:
                yield _banner(path, *header, products)
            header, products = (line, text.split()), []
        elif header is None:
            raise _broken(path, line, "a header 'example ID: ...' must come before the first candidate")
        else:
            parts = text.split(maxsplit=2)
            if len(parts) < 2 or not parts[1].startswith("exid:"):
                raise _broken(path, line, "a candidate's line is 'CLICKED exid:ID feature:value ...'")
            products.append(parts[2] if len(parts) == 3 else "")
    if header is not None:
        yield _banner(path, *header, products)


def _banner(path: Path, line: int, header: list[str], products: list[str]) -> _Banner:
    try:
        clicked, propensity = float(header[3]), float(header[4])
        slots, candidates = int(header[5]), int(header[6])
    except (IndexError, ValueError):
        raise _broken(
            path, line, "a header is 'example ID: HASH CLICKED PROPENSITY SLOTS CANDIDATES ...'"
        ) from None
    if not propensity > 0:
        raise _broken(path, line, f"the propensity (or its inverse) must be above 0, not {propensity:g}")
    if candidates != len(products) or not 1 <= slots <= candidates:
        raise _broken(
            path,
            line,
            f"the header says {slots} slots, {candidates} candidates, and {len(products)} candidates follow",
        )
    context = _features(" ".join(header[_FIELDS:]))
    return _Banner(line, header[1].rstrip(":"), clicked, propensity, slots, context, products)


def _broken(path: Path, line: int, what: str) -> DataError:
    return DataError(
        f"line {line + 1} does not follow the format: {what}", file=path, hint="Copy the file again"
    )


def _features(text: str) -> dict[str, str]:
    """feature -> value; several values of a feature are joined by `|`."""
    found: dict[str, list[str]] = defaultdict(list)
    for part in text.split():
        name, _, value = part.partition(":")
        found[name].append(value)
    return {name: "|".join(values) for name, values in found.items()}


def _ids(products: list[str]) -> list[str]:
    """An id for each candidate of a banner; products of the same features have the same id in all banners."""
    seen: Counter[str] = Counter()
    ids = []
    for product in products:
        name = blake2b(product.encode(), digest_size=8).hexdigest()
        seen[name] += 1
        ids.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return ids


def _number(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (10**9, name)


CRITEO = Format("criteo", "Criteo's counterfactual test-bed, text", read)
