"""MovieLens (GroupLens): ratings of films, in the form of 100k, of 1M, or of the newer ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from ctrkit.data.sources.base import Source, SourceTables
from ctrkit.data.sources.official import Float64, Int64, String, official, optional, with_side_table
from ctrkit.tables import TextFile, TextFormat, first_names, scan_text

LIKED = 4
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
RATING = {"user_id": Int64, "item_id": Int64, "rating": Float64, "timestamp": Int64}
LATEST = {"userId": Int64, "movieId": Int64, "rating": Float64, "timestamp": Int64}


class MovieLens(Source):
    """Ratings of films; a film with at least four of five stars is `liked`.

    The folder is `ml-100k`, `ml-1m`, or one of `ml-latest`, `ml-latest-small`, `ml-25m` and `ml-32m`. The
    columns are user_id, item_id, rating and timestamp (unix seconds); title and genres (separated by `|`),
    where the table of films is there; and of 100k and 1M age, gender, occupation and zip_code, where that of
    users is.
    """

    name = "movielens"
    rows = "100 k, 1 M, 32 M"
    columns = None
    labels = ("liked",)
    publisher = "https://grouplens.org/datasets/movielens/"
    terms = "research, not commercial"
    first_line = (
        r"\d+\t\d+\t[1-5]\t\d{9}$|\d+::\d+::[1-5]::\d+$|(user_id,item_id|userId,movieId),rating,timestamp$"
    )

    def tables(self, path: Path) -> SourceTables:
        files = official(path, "ratings.csv", "ratings.dat", "u.data")
        names = first_names(files[0], ",")
        if "movieId" in names:
            rows = _latest(path, files)
        elif "::" in names[0]:
            rows = _one_million(path, files)
        else:
            rows = _hundred_thousand(path, files)
        return SourceTables(rows.with_columns(liked=(pl.col("rating") >= LIKED).cast(pl.Int8)))


def _latest(path: Path, files: Sequence[TextFile]) -> pl.LazyFrame:
    rows = scan_text(files, TextFormat(LATEST))
    rows = rows.rename({"userId": "user_id", "movieId": "item_id"})
    films = TextFormat({"movieId": Int64, "title": String, "genres": String})
    return with_side_table(rows, optional(path, "movies.csv", beside=True), films, "item_id", "movieId")


def _one_million(path: Path, files: Sequence[TextFile]) -> pl.LazyFrame:
    rows = scan_text(files, _old(RATING, "::"))
    user = {"user_id": Int64, "gender": String, "age": Int64, "occupation": String, "zip_code": String}
    rows = with_side_table(rows, optional(path, "users.dat", beside=True), _old(user, "::"), "user_id")
    film = {"item_id": Int64, "title": String, "genres": String}
    return with_side_table(rows, optional(path, "movies.dat", beside=True), _old(film, "::"), "item_id")


def _hundred_thousand(path: Path, files: Sequence[TextFile]) -> pl.LazyFrame:
    rows = scan_text(files, _old(RATING, "\t"))
    user = {"user_id": Int64, "age": Int64, "gender": String, "occupation": String, "zip_code": String}
    rows = with_side_table(rows, optional(path, "u.user", beside=True), _old(user, "|"), "user_id")
    released = ("title", "release_date", "video_release_date", "imdb_url")
    film = {"item_id": Int64, **dict.fromkeys(released, String), **dict.fromkeys(GENRES, Int64)}
    films = optional(path, "u.item", beside=True)
    if not films:
        return rows
    rows = with_side_table(rows, films, _old(film, "|"), "item_id")
    names = [pl.when(pl.col(name) == 1).then(pl.lit(name)) for name in GENRES]
    genres = pl.concat_str(names, separator="|", ignore_nulls=True)
    known = pl.when(pl.col("unknown").is_not_null()).then(genres)
    return rows.with_columns(genres=known).drop(*released[1:], *GENRES)


def _old(columns: Mapping[str, type[pl.DataType]], delimiter: str) -> TextFormat:
    """The format of the files of 100k and 1M."""
    return TextFormat(columns, delimiter, header=False, quoted=False, encoding="latin-1")
