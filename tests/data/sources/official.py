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
        needed: pattern of the names of the files without which there are no rows.
        said: what the error of their absence says.
    """

    main: str
    write: Callable[[Path], None]
    rows: int
    needed: str
    said: str


MADE: dict[str, Made] = {}


def made(
    name: str, main: str, rows: int, needed: str | None = None, said: str | None = None
) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Register a function that writes a data set."""

    def register(write: Callable[[Path], None]) -> Callable[[Path], None]:
        file = Path(main).name
        MADE[name] = Made(main, write, rows, needed or file, said or needed or file)
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
    log = ["0,1493741625,pv,0,95471", "1,1493741626,buy,1,95471"]
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


@made("trivago", "train.csv", 4, said="trivago_impressions.parquet")
def trivago(folder: Path) -> None:
    header = "user_id,session_id,timestamp,step,action_type,reference,platform,city,device,current_filters"
    user = '"Marseille, France",tablet'
    text(
        folder / "train.csv",
        f"{header},impressions,prices",
        f"U1,s1,1541599523,1,interaction item image,101,FR,{user},,,",
        f"U1,s1,1541599553,2,clickout item,102,FR,{user},,101|102|103,71|107|60",
        f"U1,s1,1541599560,3,change of sort order,price only,FR,{user},Focus on Distance,,",
        # The hotel that was clicked is not in the list.
        'U2,s2,1541599000,1,clickout item,7,CH,"Bern, Switzerland",mobile,,8,55',
    )


@made("aliccp", "sample_skeleton_train.csv", 3, "sample_skeleton_*.csv", "sample_skeleton_train.csv")
def aliccp(folder: Path) -> None:
    ad = "205\x024\x031.0\x01210\x027\x031.0\x01210\x028\x031.0\x01301\x021\x031.0"
    user = "101\x0231\x031.0\x01127_14\x025\x032.3979\x01127_14\x026\x031.0\x01127\x023\x031.0"
    text(folder / "sample_skeleton_train.csv", f"1,1,1,c1,4,{ad}", f"2,0,0,c1,4,{ad}")
    text(folder / "common_features_train.csv", f"c1,4,{user}")
    text(folder / "sample_skeleton_test.csv", f"3,0,0,c1,4,{ad}")
    text(folder / "common_features_test.csv", "c1,1,101\x0232\x031.0")


@made("aliexpress", "AliExpress_NL/train.csv", 5, "t*.csv", "train.csv")
def aliexpress(folder: Path) -> None:
    names = [
        "search_id",
        *(f"categorical_{index}" for index in range(1, 17)),
        *(f"numerical_{index}" for index in range(1, 64)),
    ]
    rows = [",".join([str(row), *["7"] * 16, *["0.6"] * 63, str(row % 2), "0"]) for row in range(4)]
    for part, lines in (("train", rows), ("test", rows[:1])):
        header = ",".join([*names, "click", "conversion"])
        text(folder / "AliExpress_NL" / f"{part}.csv", header, *lines)


@made("kuairand", "data/log_standard_4_08_to_4_21_pure.csv", 4, "log_*.csv")
def kuairand(folder: Path) -> None:
    log = (
        "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,"
        "long_view,play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
    )
    rows = [f"{row},9,20220421,400,1650485801301,{row % 2},0,0,0,0,0,1,151,104,0,0,0,0,1" for row in range(3)]
    data = folder / "data"
    text(data / "log_standard_4_08_to_4_21_pure.csv", log, *rows)
    random = "1,8,20220422,400,1650585801301,1,0,0,0,0,0,1,151,104,0,0,0,1,1"
    text(data / "log_random_4_22_to_5_08_pure.csv", log, random)
    user = (
        "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,follow_user_num,"
        "follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,friend_user_num_range,"
        "register_days,register_days_range,"
    ) + ",".join(f"onehot_feat{index}" for index in range(18))
    feats = ",".join(["2.0", "", *["1"] * 16])
    one = f'1,full_active,0,0,1,5,"(0,10]",312,"[100,1k)",0,0,3624,730+,{feats}'
    text(data / "user_features_pure.csv", user, one)
    video = (
        "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,"
        "server_height,music_id,music_type,tag"
    )
    nine = '9,441,NORMAL,2020-07-08,ShortImport,1,17200.0,720,1280,989206467,4,"12,65"'
    text(data / "video_features_basic_pure.csv", video, nine)


@made("movielens", "ml-latest/ratings.csv", 2, "ratings.csv", "u.data")
def movielens(folder: Path) -> None:
    text(folder / "ml-latest" / "ratings.csv", "userId,movieId,rating,timestamp", "1,1,4.0,1", "1,9,3.5,2")
    films = ['1,"American President, The (1995)",Comedy|Drama', "9,Amélie (2001),(no genres listed)"]
    text(folder / "ml-latest" / "movies.csv", "movieId,title,genres", *films)


@made("amazon", "Books.jsonl", 2)
def amazon(folder: Path) -> None:
    review = (
        '{"rating": 5.0, "title": "t", "text": "x", "images": [], "asin": "B1", "parent_asin": "P1", '
        '"user_id": "U1", "timestamp": 1588687728923, "helpful_vote": 0, "verified_purchase": true}'
    )
    text(folder / "Books.jsonl", review, review.replace("5.0", "2.0").replace("P1", "P2"))
    meta = '{"main_category": "Books", "title": "A book", "average_rating": 4.8, "store": "S", "price": null'
    text(folder / "meta_Books.jsonl", meta + ', "parent_asin": "P1", "categories": ["Books"]}')


@made("mind", "behaviors.tsv", 5)
def mind(folder: Path) -> None:
    first = "1\tU1\t11/12/2019 2:14:46 PM\tN8 N9\tN1-0 N2-1 N3-0"
    text(folder / "behaviors.tsv", first, "2\tU2\t11/12/2019 12:00:00 AM\t\tN1-1 N4-0")
    rows = [f'N{news}\tsports\tgolf\tThe "news {news}\tText\thttps://n/{news}\t[]\t[]' for news in (1, 2, 3)]
    text(folder / "news.tsv", *rows)


@made("ipinyou", "training3rd/imp.20131019.txt", 3, "imp.*.txt")
def ipinyou(folder: Path) -> None:
    def line(bid: str, kind: str, more: str = "") -> str:
        return (
            f"{bid}\t20131019134000123\t{kind}\tV1\tMozilla/5.0 \t1.2.3.*\t80\t85\t2\tdom\turl\tnull\tslot"
            f"\t950\t90\t0\t1\t0\tcreative\t300\t54\tnull\t2997\t10006{more}"
        )

    season = folder / "training3rd"
    text(season / "imp.20131019.txt", line("a", "1"), line("b", "1", ",10024"), line("c", "1"))
    text(season / "clk.20131019.txt", line("b", "2"), line("b", "2"))
    text(season / "conv.20131019.txt", line("b", "3"))
    text(folder / "training1st" / "imp.20130311.txt", "another\tform")


@made("open-bandit", "all/all.csv", 3)
def open_bandit(folder: Path) -> None:
    names = ["", "timestamp", "item_id", "position", "click", "propensity_score", "user_feature_0"]
    names += ["user-item_affinity_0", "user-item_affinity_1"]
    rows = [f"{row},2019-11-24 00:00:0{row}+00:00,{row},3,{row % 2},0.0125,81ce,0.0,1.5" for row in range(3)]
    text(folder / "all" / "all.csv", ",".join(names), *rows)
    items = [f"{item},{item},-0.5,a{item},b,c" for item in range(2)]
    header = ",item_id," + ",".join(f"item_feature_{index}" for index in range(4))
    text(folder / "all" / "item_context.csv", header, *items)


@made("taac", "demo.parquet", 3, "*.parquet")
def taac(folder: Path) -> None:
    pl.DataFrame(
        {
            "user_id": ["u"] * 3, "item_id": [1, 2, 3], "label_type": [1, 2, None], "label_time": [5, 6, 7],
            "timestamp": [1772725488] * 3, "user_int_feats_1": [1, 2, 3], "domain_a_seq_38": [[1], [2], []],
        },
        strict=False,
    ).write_parquet(folder / "demo.parquet")  # fmt: skip


@made("auctionnet", "period-7.csv", 2, "period-*.csv")
def auctionnet(folder: Path) -> None:
    header = (
        "deliveryPeriodIndex,advertiserNumber,advertiserCategoryIndex,budget,CPAConstraint,timeStepIndex,"
        "remainingBudget,pvIndex,pValue,pValueSigma,bid,xi,adSlot,cost,isExposed,conversionAction,"
        "leastWinningCost,isEnd"
    )
    rows = [
        f"7,{one},2,6500.00,27.00,5,5962.49,1010,0.01035,0.00215,0.2845,1,1,0.27,1,{one},0.18,0"
        for one in (0, 1)
    ]
    text(folder / "period-7.csv", header, *rows)


@made("recbole", "ml-1m.inter", 2, "*.inter")
def recbole(folder: Path) -> None:
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    text(folder / "ml-1m.inter", header, "1\t1193\t5\t978300760", "2\t661\t3\t978302109")
    text(folder / "ml-1m.user", "user_id:token\tage:token", "1\t18", "2\t56")
    items = ["1193\tToy Story\t0.5 1", "661\tJumanji\t"]
    text(folder / "ml-1m.item", "item_id:token\tmovie_title:token_seq\tvector:float_seq", *items)


@made("table", "rows.csv", 2, "*.csv", "no table is there")
def table(folder: Path) -> None:
    text(folder / "rows.csv", "user,click,price", "a,0,1.5", "b,1,2")
