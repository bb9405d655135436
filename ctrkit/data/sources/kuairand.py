"""KuaiRand (Kuaishou, 2022): short videos, some of them shown at random."""

from __future__ import annotations

from pathlib import Path

from ctrkit.data.sources.base import Source, SourceTables
from ctrkit.data.sources.official import Int8, Int64, String, official, with_side_table
from ctrkit.tables import TextFormat, scan_text

LOG = {
    **dict.fromkeys(("user_id", "video_id", "date", "hourmin", "time_ms"), Int64),
    **dict.fromkeys(
        ("is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view"), Int8
    ),
    **dict.fromkeys(("play_time_ms", "duration_ms", "profile_stay_time", "comment_stay_time"), Int64),
    **dict.fromkeys(("is_profile_enter", "is_rand", "tab"), Int8),
}
USER = {
    "user_id": Int64, "user_active_degree": String, "is_lowactive_period": Int64, "is_live_streamer": Int64,
    "is_video_author": Int64, "follow_user_num": Int64, "follow_user_num_range": String,
    "fans_user_num": Int64, "fans_user_num_range": String, "friend_user_num": Int64,
    "friend_user_num_range": String, "register_days": Int64, "register_days_range": String,
    **{f"onehot_feat{index}": Int64 for index in range(18)},
}  # fmt: skip
VIDEO = {
    "video_id": Int64, "author_id": Int64, "video_type": String, "upload_dt": String, "upload_type": String,
    "visible_status": Int64, "video_duration": Int64, "server_width": Int64, "server_height": Int64,
    "music_id": Int64, "music_type": Int64, "tag": String,
}  # fmt: skip


class KuaiRand(Source):
    """Kuaishou's videos with twelve kinds of feedback; `is_rand` marks those that were shown at random.

    The rows are those of all `log_*.csv` of one of the three versions, with `user_features_*.csv` and
    `video_features_basic_*.csv`. `is_click` is `click`. `time_ms` is in milliseconds. The daily statistics of
    videos are left out: they are means over the whole month, and so know the clicks that are to be predicted.
    """

    name = "kuairand"
    rows = "2.6 M to 323 M"
    columns = 60
    publisher = "https://zenodo.org/records/10439422"
    terms = "CC BY-SA 4.0"
    first_line = "user_id,video_id,date,hourmin,time_ms,is_click,"

    def tables(self, path: Path) -> SourceTables:
        rows = scan_text(official(path, "log_*.csv"), TextFormat(LOG)).rename({"is_click": "click"})
        users, videos = (
            official(path, name, beside=True)
            for name in ("user_features_*.csv", "video_features_basic_*.csv")
        )
        rows = with_side_table(rows, users, TextFormat(USER), "user_id")
        return SourceTables(with_side_table(rows, videos, TextFormat(VIDEO), "video_id"))
