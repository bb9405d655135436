"""Settings that change what a model is made of; every other model is tested as it comes."""

from __future__ import annotations

from typing import Any

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "mdaf": [
        {},
        {"fusion": "context_gate"},
        {"history": {"readouts": ["last_state"], "products": False}},
        {
            "cross": {"heads": 2, "batch_norm": True},
            "history": {"encoder": {"norm": "post"}},
            "embedding": 8,
        },
    ]
}
