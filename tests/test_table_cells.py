"""Ids, lists and types of text cells."""

from __future__ import annotations

from decimal import Decimal

import polars as pl
import pytest

from ctrkit.errors import DataError
from ctrkit.tables.cells import as_ids, inferred, lists_of, unsplit


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        ([7, 12, None], ["7", "12", None]),
        (["7", " 12 ", ""], ["7", "12", None]),
        ([7.0, 12.0, float("nan")], ["7", "12", None]),
        (["7.0", "12", "nan"], ["7", "12", None]),
        (["007", "1.50", "NA"], ["007", "1.50", "NA"]),  # neither zeros nor Namibia are lost
        (["e\u0301te\u0301", "\u00e9t\u00e9"], ["\u00e9t\u00e9", "\u00e9t\u00e9"]),
        ([True, False], ["1", "0"]),
        ([Decimal("7"), Decimal("12345678901234567890")], ["7", "12345678901234567890"]),
        (["1e80", "12e+5"], ["1e80", "12e+5"]),  # hexadecimal, and a name
    ],
)
def test_an_id_is_the_same_in_every_form(values: list[object], ids: list[str | None]) -> None:
    assert as_ids(pl.Series("id", values, strict=False)).to_list() == ids


def test_numbers_that_are_not_whole_are_no_ids() -> None:
    with pytest.raises(DataError, match="column 'ad': ids are integers or text, not Float64"):
        as_ids(pl.Series("ad", [1.0, 0.5]))


@pytest.mark.parametrize("values", [[7.0, 2.0**60, None], ["7", "1.15292E+18"], ["1.152921504606847e+18"]])
def test_ids_that_were_rounded_until_they_are_the_same_are_refused(values: list[object]) -> None:
    with pytest.raises(DataError, match=r"an id that was rounded .*'Int64'") as caught:
        as_ids(pl.Series("user", values))
    assert (caught.value.column, caught.value.row) == ("user", len(values[:2]) - 1)


@pytest.mark.parametrize(
    ("cell", "values"),
    [
        ("3|7|9", ["3", "7", "9"]),
        ("[3, 7, 9]", ["3", "7", "9"]),
        ("[3 7\n 9]", ["3", "7", "9"]),
        ("3,7,9", ["3", "7", "9"]),
        ('{3,"red, hat",NULL}', ["3", "red, hat", None]),
        ("{}", []),
        ("3, 7; 9", ["3", "7", "9"]),
        ("3 7 9", ["3", "7", "9"]),
        ("(3, 7)", ["3", "7"]),
        ("array([0.5, 0.5], dtype=float32)", ["0.5", "0.5"]),
        ("[np.float64(0.4), np.float64(6e-1)]", ["0.4", "6e-1"]),
        ("[np.str_('a, b'), None]", ["a, b", None]),
        ("['hat', 'sock']", ["hat", "sock"]),
        ("['hat' 'sock']", ["hat", "sock"]),
        ('["hat, red", "sock"]', ["hat, red", "sock"]),
        (r"['it\'s', \"x\"]".replace(r"\"", '"'), ["it's", "x"]),
        (r"['a\tb', '\u00e9']", ["a\tb", "é"]),
        ('[1, "x", true, null]', ["1", "x", "true", None]),
        ("New York", ["New York"]),
        ("a||b", ["a", None, "b"]),
        ("[broken", ["[broken"]),
        ("[__import__('os').system('x')]", ["[__import__('os').system('x')]"]),
        ("[]", []),
        ("", None),
    ],
)
def test_lists_in_text_are_parsed_in_every_common_form(cell: str, values: list[str | None] | None) -> None:
    assert lists_of(pl.Series([cell]), "|").to_list() == [values]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1", "2", ""], [1, 2, None]),
        (["1", "2.5", None], [1.0, 2.5, None]),
        (["true", "False"], [True, False]),
        (["007", "8"], ["007", "8"]),
        (["12345678901234567890", "1"], ["12345678901234567890", "1"]),
        (["1"] * 20_000 + ["1a"], ["1"] * 20_000 + ["1a"]),
        (["", None], ["", None]),
    ],
)
def test_types_are_those_of_all_cells_and_lose_nothing(cells: list[str], values: list[object]) -> None:
    assert inferred(pl.Series(cells, dtype=pl.String)).to_list() == values


def test_a_separator_that_cuts_nothing_is_found_out() -> None:
    assert unsplit(pl.Series(["a,b", "c,d,e", "f"]), "|") == ","
    assert unsplit(pl.Series(["N1 N2", "N3 N4", "N5"]), "|") == " "
    assert unsplit(pl.Series(["New York"] * 9), "|") is None
    assert unsplit(pl.Series(["a|b", "c,d", "e,f"]), "|") is None
    assert unsplit(pl.Series(["1,2", "3,4", "[a,b]"]), "|") is None
