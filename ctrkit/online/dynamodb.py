"""DynamoDB: an online store that AWS keeps.

The table has the partition key `key`, a text. An item holds the text `content` and the numbers `time` and
`expires`, in unix seconds; let the table's time to live read `expires` to have old items removed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ctrkit.errors import reason
from ctrkit.extras import require
from ctrkit.online.store import FeatureRow, FeatureSet, StoreError
from ctrkit.online.values import packed, unpacked

# The most keys of a BatchGetItem, by the service's limit.
_KEYS = 100
# How often keys are asked for again that the service left out, and the first pause in seconds.
_TRIES, _PAUSE = 6, 0.05
_NEWER = "attribute_not_exists(#key) OR #time <= :time OR #expires <= :now"
_NAMES = {"#key": "key", "#time": "time", "#expires": "expires"}


class DynamoStore:
    """An online store in a table of DynamoDB. boto3 finds the credentials.

    Args:
        table: name of the table.
        region: region of AWS; None: that of the environment.
        endpoint: URL of another server that speaks as DynamoDB does; None: AWS.
    """

    read_only = False

    def __init__(self, table: str, region: str | None = None, endpoint: str | None = None) -> None:
        self.table = table
        self._errors = require("botocore.exceptions", "the online store of DynamoDB", "dynamodb")
        boto3 = require("boto3", "the online store of DynamoDB", "dynamodb")
        config = require("botocore.config", "the online store of DynamoDB", "dynamodb")
        settings = config.Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 3})
        try:
            self._client: Any = boto3.client(
                "dynamodb", region_name=region, endpoint_url=endpoint, config=settings
            )
        except (self._errors.BotoCoreError, ValueError) as error:
            raise self._failed(error) from error

    def get_many(self, features: FeatureSet, keys: Sequence[str]) -> list[Mapping[str, object] | None]:
        """As in `OnlineStore`: one round trip for 100 keys."""
        found: dict[str, dict[str, object]] = {}
        names = {_key(features, key): key for key in keys}
        distinct, now = [*names], time.time()
        for start in range(0, len(distinct), _KEYS):
            for item in self._items(distinct[start : start + _KEYS]):
                if "expires" in item and float(item["expires"]["N"]) <= now:
                    continue
                try:
                    found[names[item["key"]["S"]]] = unpacked(item["content"]["S"])
                except (ValueError, KeyError) as error:
                    raise StoreError(f"table {self.table} holds damaged values: {reason(error)}") from error
        return [found.get(key) for key in keys]

    def _items(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        asked: dict[str, Any] = {self.table: {"Keys": [{"key": {"S": key}} for key in keys]}}
        items: list[dict[str, Any]] = []
        for attempt in range(_TRIES):
            try:
                answer = self._client.batch_get_item(RequestItems=asked)
            except (self._errors.BotoCoreError, self._errors.ClientError) as error:
                raise self._failed(error) from error
            items += answer["Responses"].get(self.table, [])
            asked = answer.get("UnprocessedKeys") or {}
            if not asked:
                return items
            time.sleep(_PAUSE * 2**attempt)
        raise StoreError(f"table {self.table} of DynamoDB left keys out {_TRIES} times: it is overloaded")

    def put_many(self, features: FeatureSet, rows: Sequence[FeatureRow], *, ttl: float | None = None) -> int:
        """As in `OnlineStore`: one round trip for a row, as only single writes have conditions."""
        now = time.time()
        # packed first, so that a wrong value stops the work before the first write
        content = [(row, packed(row.values, row.key).decode()) for row in rows]
        written = 0
        for row, values in content:
            item = {
                "key": {"S": _key(features, row.key)},
                "time": {"N": repr(row.time)},
                "content": {"S": values},
            }
            if ttl is not None:
                item["expires"] = {"N": repr(now + ttl)}
            try:
                self._client.put_item(
                    TableName=self.table,
                    Item=item,
                    ConditionExpression=_NEWER,
                    ExpressionAttributeNames=_NAMES,
                    ExpressionAttributeValues={":time": item["time"], ":now": {"N": repr(now)}},
                )
                written += 1
            except self._client.exceptions.ConditionalCheckFailedException:
                continue
            except (self._errors.BotoCoreError, self._errors.ClientError) as error:
                raise self._failed(error) from error
        return written

    def _failed(self, error: Exception) -> StoreError:
        return StoreError(f"table {self.table} of DynamoDB does not answer: {reason(error)}")


def _key(features: FeatureSet, key: str) -> str:
    return f"{features.path}:{key}"
