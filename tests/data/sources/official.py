"""A few rows of each data set in its official format, made here; no row is of the published files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl


@dataclass(frozen=True)
class Made:
    """Writes a data set into a folder.

    Attributes:
        main: the file that the tests spoil, by its path in the folder.
        write: writes all files.
        rows: number of rows that the source makes of them.
    """

    main: str
    write: Callable[[Path], None]
    rows: int


MADE: dict[str, Made] = {}


def made(name: str, main: str, rows: int) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Register a function that writes a data set."""

    def register(write: Callable[[Path], None]) -> Callable[[Path], None]:
        MADE[name] = Made(main, write, rows)
        return write

    return register


def text(path: Path, *lines: str, encoding: str = "utf-8") -> None:
    """Write a text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding=encoding)


@made("criteo", "train.txt", 40)
def criteo(folder: Path) -> None:
    rows = []
    for row in range(40):
        numbers = [str(row % 2 * place) if row % 9 else "" for place in range(13)]
        rows.append(
            "\t".join(
                [
                    str(row % 4 // 3),
                    *numbers,
                    *(f"{place:08x}" for place in range(25)),
                    "" if row % 3 else "0a",
                ]
            )
        )
    text(folder / "train.txt", *rows)


@made("avazu", "train", 40)
def avazu(folder: Path) -> None:
    names = [
        "id", "click", "hour", "C1", "banner_pos", "site_id", "site_domain", "site_category", "app_id",
        "app_domain", "app_category", "device_id", "device_ip", "device_model", "device_type",
        "device_conn_type", *(f"C{index}" for index in range(14, 22)),
    ]  # fmt: skip
    rows = [[str(10**19 + row), str(row % 4 // 3), f"1410{21 + row // 20}{row % 24:02}"] for row in range(40)]
    text(folder / "train", ",".join(names), *(",".join([*row, *(["1fbe01fe"] * 21)]) for row in rows))


@made("userbehavior", "UserBehavior.csv", 41)
def userbehavior(folder: Path) -> None:
    views = [f"{row % 5},{row % 2},{row % 2},pv,{1511658000 + 900 * row}" for row in range(40)]
    others = ["1,1,1,buy,1511658900", "1,1,1,pv,1511668900", "2,3,0,fav,1511658900", "3,3,0,cart,1511658900"]
    text(folder / "UserBehavior.csv", *views, *others)


@made("taobaoad", "raw_sample.csv", 40)
def taobaoad(folder: Path) -> None:
    rows = [
        f"{row % 2},{1494032110 + 9000 * row},{row % 2 * 3},430548_1007,{1 - row % 4 // 3},{row % 4 // 3}"
        for row in range(39)
    ]
    rows.append("4,1494720000,6,430548_1007,1,0")
    text(folder / "raw_sample.csv", "user,time_stamp,adgroup_id,pid,nonclk,clk", *rows)
    ads = [f"{ad},{ad % 2},{ad},1,{'NULL' if ad == 3 else 95471},{ad * 10}.5" for ad in range(6)]
    text(folder / "ad_feature.csv", "adgroup_id,cate_id,campaign_id,customer,brand,price", *ads)
    names = "userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,shopping_level,occupation"
    users = [f"{user},0,5,2,2,{'' if user else 2},3,0,{user}" for user in range(4)]
    text(folder / "user_profile.csv", f"{names},new_user_class_level ", *users)
    log = ["0,1493741625,pv,6250,91286", "1,1493741626,buy,6250,91286"]
    text(folder / "behavior_log.csv", "user,time_stamp,btag,cate,brand", *log)


@made("hillstrom", "hillstrom.csv", 4)
def hillstrom(folder: Path) -> None:
    names = (
        "recency,history_segment,history,mens,womens,zip_code,newbie,channel,segment,visit,conversion,spend"
    )
    rows = [
        f"{row},2) $100 - $200,142.44,1,0,Surburban,0,Phone,Womens E-Mail,{row % 2},0,0" for row in range(4)
    ]
    text(folder / "hillstrom.csv", names, *rows)


@made("trivago", "trivago_impressions.parquet", 3)
def trivago(folder: Path) -> None:
    rows = [
        {
            "event_id": 0, "user_id": "u", "session_id": "s", "timestamp": 1000, "step": 1, "position": item,
            "item_id": item, "price": 10 * item, "click": int(item == 2), "platform": "FR", "device": "d",
        }
        for item in (1, 2, 3)
    ]  # fmt: skip
    pl.DataFrame(rows).write_parquet(folder / "trivago_impressions.parquet")
    action = {"user_id": "u", "session_id": "s", "timestamp": 900, "step": 1}
    kind = {"action_type": "interaction item image", "reference": "1"}
    pl.DataFrame([action | kind]).write_parquet(folder / "trivago_actions.parquet")
