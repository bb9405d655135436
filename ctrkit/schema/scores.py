"""The columns of a table of scores: what a model of any kind predicted, beside what happened."""

from __future__ import annotations

from ctrkit.schema.columns import Column
from ctrkit.schema.log_schema import LogSchema

# Label and prediction of each task, in funnel order.
FUNNEL = {"click": "pctr", "conversion": "pcvr"}

_UNKNOWN = "Write 0 where it did not happen, and remove a row only where this is not known"

# Names that libraries and people give to a prediction.
_PREDICTIONS = (
    "probability", "prob", "proba", "score", "prediction", "pred", "p", "y_prob", "y_pred", "y_score", "y_hat"
)  # fmt: skip

SCORES = LogSchema(
    "table of scores",
    (
        Column(
            "click",
            "binary",
            "whether the impression was clicked",
            ("clicked", "is_click", "label", "labels", "y", "y_true", "target"),
            missing=_UNKNOWN,
        ),
        Column(
            "pctr",
            "prediction",
            "the predicted probability of a click",
            ("pCTR", "predicted_ctr", "p_click", *_PREDICTIONS),
        ),
        Column(
            "conversion",
            "binary",
            "whether the click converted",
            ("converted", "is_conversion"),
            missing="Write 0 where there was no click, because nothing converted there",
        ),
        Column(
            "pcvr",
            "prediction",
            "the predicted probability of a conversion, given a click",
            ("pCVR", "predicted_cvr", "p_conversion", "conversion_probability"),
        ),
        Column("weight", "number", "the row's weight", ("sample_weight", "weights"), low=0.0),
        Column(
            "user_id",
            "id",
            "the user, by whom intervals are clustered",
            ("user", "uid", "cluster_id", "group"),
            nullable=True,
        ),
        Column("timestamp", "time", "the time of the row", ("ts", "time")),
    ),
)
