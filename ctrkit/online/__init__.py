"""Features for serving: stores of the newest values of every key, behind one protocol."""

from ctrkit.online.address import open_store
from ctrkit.online.store import FeatureRow, FeatureSet, OnlineStore, StoreError
from ctrkit.online.values import Values

__all__ = ["FeatureRow", "FeatureSet", "OnlineStore", "StoreError", "Values", "open_store"]
