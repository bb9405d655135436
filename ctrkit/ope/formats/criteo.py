"""Criteo's counterfactual test-bed (Lefortier et al. 2016, arXiv:1612.00367): banners filled with products.

An impression is a header and one line a candidate product, separated by blanks:

    example ID: HASH CLICKED PROPENSITY SLOTS CANDIDATES feature:value ...
    CLICKED exid:ID feature:value ...

The products that were shown are the first SLOTS candidates. Read are banners of one slot: the one
propensity of a larger banner is that of the whole slate, and slates have estimators of their own.

Whether the propensity column holds p or 1/p depends on the release. The test-bed's page calls it the
propensity, and the published parser divides by it. The scorer of the NIPS 2017 challenge, which Criteo gave
data of its own for, takes 1/p by default. The numbers themselves tell: p is at most 1, and 1/p at least 1.
A file with values on both sides of 1 is refused.

In the published data clicked banners are all kept and one in ten of the others; a file does not say
whether it was thinned out. The reader leaves the rows as they are and says so.
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
    "In the published Criteo data one in ten banners without a click was kept: there, rewards are too high "
    "by about that factor, and no estimator here undoes it."
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
    """Read one file, packed by gzip or not.

    Products carry no ids, so a product's id is a hash of its features; where two candidates of a banner are
    alike in all of them, the later ones are numbered. Features keep their names, `feature_7`, and their
    values as text; a feature with several values holds them with `|` between. Those of the products are the
    lists `candidate_feature_12`.

    Raises:
        DataError: a line breaks the format, propensities lie on both sides of 1, or no banner has one slot.
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
            "no banner has a single slot", file=path, hint="Larger banners are slates and are not read"
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
    column = "1/p: its values are 1 or more" if inverse else "p: its values are at most 1"
    notes = [f"The propensity column of the Criteo log was taken for {column}.", _THINNED]
    if larger:
        notes.append(f"Banners left out: {larger:,} (more than one slot).")
    return LogTable(table, os.fspath(path), tuple(notes))


def _propensities(banners: list[_Banner], path: Path) -> tuple[list[float], bool]:
    """The propensities, and whether the file holds their inverses."""
    values = np.array([banner.propensity for banner in banners])
    if (values > 1).any() and (values < 1).any():
        above = int(np.argmax(values > 1))
        raise DataError(
            f"{values[above]:g} (line {banners[above].line + 1}) is above 1 and others are below, so that "
            "the column holds neither propensities nor their inverses",
            file=path,
            column="propensity",
            row=above,
            hint="Store one of the two throughout",
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
            raise _broken(path, line, "a header 'example ID: ...' stands before the first candidate")
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
        raise _broken(path, line, f"a propensity, or its inverse, is above 0, and this one is {propensity:g}")
    if candidates != len(products) or not 1 <= slots <= candidates:
        raise _broken(
            path, line, f"{len(products)} candidates follow for {slots} slots and {candidates} candidates"
        )
    context = _features(" ".join(header[_FIELDS:]))
    return _Banner(line, header[1].rstrip(":"), clicked, propensity, slots, context, products)


def _broken(path: Path, line: int, what: str) -> DataError:
    return DataError(f"line {line + 1} breaks the format: {what}", file=path, hint="Copy the file again")


def _features(text: str) -> dict[str, str]:
    """feature -> value; several values of a feature stand with `|` between."""
    found: dict[str, list[str]] = defaultdict(list)
    for part in text.split():
        name, _, value = part.partition(":")
        found[name].append(value)
    return {name: "|".join(values) for name, values in found.items()}


def _ids(products: list[str]) -> list[str]:
    """An id for each candidate of a banner, the same wherever a product of the same features stands."""
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
