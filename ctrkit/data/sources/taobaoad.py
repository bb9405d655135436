"""Taobao's display ads (Alimama, 2018): eight days of ads, and 22 days of what the same users did before."""

from __future__ import annotations

from pathlib import Path

from ctrkit.data.sources.base import Source, SourceTables
from ctrkit.data.sources.official import Float64, Int8, Int64, String, official, optional, with_side_table
from ctrkit.tables import TextFormat, scan_text

SAMPLE = {
    "user": Int64, "time_stamp": Int64, "adgroup_id": Int64, "pid": String, "nonclk": Int8, "clk": Int8
}  # fmt: skip
AD = {
    "adgroup_id": Int64, "cate_id": Int64, "campaign_id": Int64, "customer": Int64, "brand": Int64,
    "price": Float64,
}  # fmt: skip
USER = {
    "userid": Int64, "cms_segid": Int64, "cms_group_id": Int64, "final_gender_code": Int64,
    "age_level": Int64, "pvalue_level": Int64, "shopping_level": Int64, "occupation": Int64,
    "new_user_class_level": Int64,
}  # fmt: skip
BEHAVIOR = {"user": Int64, "time_stamp": Int64, "btag": String, "cate": Int64, "brand": Int64}


class TaobaoAd(Source):
    """Taobao's display ads of 6 to 13 May 2017, with features of the ad and of the user.

    The columns are those of `raw_sample.csv`, where `clk` is `click`, then of `ad_feature.csv` and
    `user_profile.csv`. `time_stamp` is in unix seconds. The table of events is `behavior`, the
    `behavior_log.csv`, if it is there, of about 700 million rows.
    """

    name = "taobaoad"
    rows = "26 M"
    columns = 18
    publisher = "https://tianchi.aliyun.com/dataset/56"
    terms = "as its page says"
    first_line = "user,time_stamp,adgroup_id,pid,nonclk,clk$"

    def tables(self, path: Path) -> SourceTables:
        rows = scan_text(official(path, "raw_sample.csv"), TextFormat(SAMPLE))
        rows = rows.drop("nonclk").rename({"clk": "click"})
        rows = with_side_table(
            rows, official(path, "ad_feature.csv", beside=True), TextFormat(AD), "adgroup_id"
        )
        rows = with_side_table(
            rows, official(path, "user_profile.csv", beside=True), TextFormat(USER), "user", "userid"
        )
        log = optional(path, "behavior_log.csv", beside=True)
        events = {"behavior": scan_text(log, TextFormat(BEHAVIOR))} if log else {}
        return SourceTables(rows, events)
