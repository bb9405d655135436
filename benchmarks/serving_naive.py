"""The rival of `serving_load.py`: a model as it is often served first.

FastAPI with a pydantic body, eager PyTorch, and one row after another, each with the user's history.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import polars as pl
import torch
from fastapi import FastAPI
from pydantic import BaseModel

import ctrkit
from ctrkit.nn.batches import Batch

torch.set_num_threads(1)
MODEL = ctrkit.load(json.loads(Path(os.environ["NAIVE_SERVER"]).read_text())["model"])
app = FastAPI()


class Request(BaseModel):
    """A user and the candidates of one request."""

    context: dict[str, int | list[int]]
    candidates: dict[str, list[int]]


@app.get("/ready")
def ready() -> dict[str, bool]:
    return {"ready": True}


@app.post("/score")
def score(request: Request) -> dict[str, list[float]]:
    each = pl.DataFrame(request.candidates)
    shared = [pl.Series(name, [value]) for name, value in request.context.items()]
    rows = each.with_columns(one.new_from_index(0, each.height) for one in shared)
    encoded = MODEL.encoder.encode(rows, labels=False)
    clicks = []
    for place in range(rows.height):
        with torch.no_grad():
            logits = MODEL.network(Batch.of(encoded, slice(place, place + 1))).logits
        clicks.append(float(logits[0, 0].sigmoid()))
    return {"click": clicks}
