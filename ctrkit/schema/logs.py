"""The logs that ctrkit reads: of decisions, of bids, of auctions."""

from __future__ import annotations

from ctrkit.schema.columns import Column
from ctrkit.schema.log_schema import LogSchema

# In a bandit or auction log, `candidate_<feature>` lists a feature's value for each candidate of the row.
CANDIDATE_PREFIX = "candidate_"
# In a log of impressions, `served_<task>` is the probability that a server gave.
SERVED_PREFIX = "served_"

BANDIT_LOG = LogSchema(
    "bandit log",
    (
        Column("event_id", "id", "the decision's unique id", ("EventId",)),
        Column("timestamp", "time", "the time of the decision", ("ts", "Timestamp")),
        Column("user_id", "id", "the user, by whom intervals are clustered", ("cluster_id",), nullable=True),
        Column("action", "id", "the action that was taken", ("item_id", "a"), required=True),
        Column(
            "propensity",
            "probability",
            "the probability with which the logging policy chose the action",
            ("pscore", "propensity_score", "action_prob", "p", "_label_probability"),
            required=True,
        ),
        Column("reward", "number", "what the action earned", ("click", "r"), required=True),
        Column("candidates", "ids", "the actions that could have been taken"),
        Column(
            "logging_probabilities",
            "probabilities",
            "the logging policy's probability of each candidate",
            ("logging_probs",),
        ),
        Column(
            "target_probability",
            "number",
            "the new policy's probability of the action that was taken",
            ("target_prob",),
            low=0.0,
        ),
        Column("position", "id", "the slot of the action on the page", ("slot",)),
        Column("slate_id", "id", "the page or banner whose slots the rows are"),
        Column(
            "marginal_propensity",
            "probability",
            "the logging policy's probability of the slot's action, over all contents of the slots above it",
        ),
        Column(
            "target_marginal_probability",
            "number",
            "the new policy's probability of the slot's action, over all contents of the slots above it",
            low=0.0,
        ),
        Column("logger_id", "id", "which logging policy chose, where there were several"),
        Column(
            "logger_probabilities",
            "probabilities",
            "every logging policy's probability of the logged action, in the order of their sorted ids",
        ),
        Column("q_logged", "number", "a model's prediction of the reward of the logged action"),
        Column("q_policy", "number", "the mean of that model's predictions under the new policy"),
        Column(
            "p_drop",
            "number",
            "the probability with which such a row was dropped from the log",
            ("pdrop",),
            low=0.0,
        ),
    ),
    listed=CANDIDATE_PREFIX,
    mappable=True,
    same_ids=("action", "candidates"),
)

BID_LOG = LogSchema(
    "bid log",
    (
        Column("event_id", "id", "the decision's unique id", ("EventId",)),
        Column("timestamp", "time", "the time of the bid", ("ts", "Timestamp")),
        Column("user_id", "id", "the user, by whom intervals are clustered", ("cluster_id",), nullable=True),
        Column("bid", "number", "the bid that was made", ("action",), required=True),
        Column(
            "density",
            "number",
            "the logging policy's probability density at the bid, per unit of the bid",
            ("pdf_value", "propensity"),
            required=True,
        ),
        Column("reward", "number", "what the bid earned", ("r",), required=True),
        Column("target_bid", "number", "the bid of the new policy"),
        Column(
            "p_drop",
            "number",
            "the probability with which such a row was dropped from the log",
            ("pdrop",),
            low=0.0,
        ),
        Column("q_logged", "number", "a model's prediction of the reward of the logged bid"),
        Column("q_policy", "number", "its prediction of the reward of the new policy's bid"),
    ),
    mappable=True,
)

AUCTION_LOG = LogSchema(
    "auction log",
    (
        Column("timestamp", "time", "the time of the auction", ("ts", "time")),
        Column("episode", "integer", "the pacing episode of the auction"),
        Column(
            "market_price",
            "number",
            "the highest competing bid, in units of money an impression",
            ("payprice", "winning_price"),
            required=True,
            low=0.0,
            missing="The price of a lost auction is unknown, and neither a simulated price nor a log without "
            "the lost auctions shows the market: give the exchange's minimum bid to win, or replay only the "
            "won auctions and read the result as one for that part of the market",
        ),
        Column(
            "click",
            "binary",
            "whether the impression was clicked",
            ("clicked",),
            missing="It is unknown whether the impression of a lost auction would have been clicked: replay "
            "only won auctions, or leave the column out",
        ),
        Column(
            "conversion",
            "binary",
            "whether the click converted",
            missing="Write 0 where there was no click, because nothing converted there",
        ),
        Column(
            "value",
            "number",
            "the value of a conversion",
            low=0.0,
            missing="Write 0 where there was no conversion, or the value that a conversion would have had",
        ),
        Column("pctr", "prediction", "the predicted probability of a click", ("pCTR", "predicted_ctr")),
        Column(
            "pcvr",
            "prediction",
            "the predicted probability of a conversion, given a click",
            ("pCVR", "predicted_cvr"),
        ),
        Column("candidates", "ids", "the ads that could fill the slot"),
        Column(
            "user_id",
            "id",
            "the user who sees the impression, for frequency caps",
            ("cluster_id",),
            nullable=True,
        ),
        Column(
            "slot_prices",
            "numbers",
            "the bid to beat for each slot of the page, highest first; the first is market_price",
        ),
    ),
    listed=CANDIDATE_PREFIX,
    mappable=True,
)
