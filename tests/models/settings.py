"""Settings that change what a model is made of; every other model is tested as it comes."""

from __future__ import annotations

from typing import Any

GATED: dict[str, Any] = {
    "name": "shared_bottom",
    "towers": [8],
    "gates": {"scale": ["embeddings", "towers"], "prior": ["hour"]},
}
HEADS: list[dict[str, Any]] = [
    GATED,
    {"name": "esmm"},
    {"name": "mmoe", "experts": 3},
    {"name": "mmoe", "bottom": "shared", "expert_widths": [16], "towers": [8]},
    {"name": "ple", "expert_widths": [16]},
    {"name": "ple", "bottom": "shared", "expert_widths": [16], "task_experts": 2},
    {"name": "aitm"},
    {"name": "aitm", "bottom": "shared", "task_widths": [16]},
]

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "autoint": [{}, {"hidden": [32, 16], "attention_width": 16}],
    "bst": [
        {},
        {
            "embedding": 8,
            "hidden": [16],
            "history": {"encoder": {"blocks": 2, "heads": 2}, "readouts": ["target_state", "mean"]},
        },
    ],
    "dcn": [{}, {"hidden": [], "layers": 1}],
    "dcnv2": [
        {},
        {"structure": "stacked", "mixture": {"rank": 8}},
        {"mixture": {"rank": 8, "experts": 1, "activation": "identity"}, "hidden": []},
    ],
    "dcnv3": [
        {},
        {"heads": {"name": "shared_bottom"}, "cross": {"heads": 2, "batch_norm": True, "rank": 8}},
    ],
    "din": [
        {},
        {"history": {"readouts": ["din:newest=2", "sim_hard:top=2", "sim_soft:top=3"], "positions": True}},
        {"history": {"readouts": ["twin:top=2,heads=4", "sdim:bits=1", "eta:top=2,bits=8"]}},
    ],
    "dien": [{}, {"history": {"encoder": {"name": "none"}, "products": True}}],
    "dnn": [
        {},
        {"embedding": {"width": 8, "per_field": True, "hash_above": 20, "hash_rows": 16, "dropout": 0.1}},
        *({"hidden": [32], "heads": heads} for heads in HEADS),
    ],
    "feature_gating": [
        {},
        {"gate": "row", "per": "vector", "hidden": []},
        {"gate": "embedding", "per": "dimension", "gate_hidden": []},
        {"gate": "embedding", "per": "vector"},
    ],
    "fibinet": [{}, {"form": "all", "excitation": "sigmoid"}, {"form": "each"}],
    "finalmlp": [
        {},
        {"contexts": ["constant", "none"], "hidden": [64, 32], "second_hidden": [16], "fusion_heads": 4},
    ],
    "gru4rec": [{}, {"history": {"encoder": {"name": "lstm", "layers": 2}}}],
    "hstu": [{}, {"history": {"encoder": {"blocks": 1}, "readouts": ["last_state"], "products": True}}],
    "hyformer": [{}, {"width": 24, "tokens": 6, "queries": 2, "blocks": 1, "hidden": []}],
    "mamba4rec": [{}, {"history": {"encoder": {"blocks": 2}, "readouts": ["target_state"]}}],
    "masknet": [{}, {"form": "serial", "reduction": 2.0}],
    "onetrans": [
        {},
        {
            "embedding": 8,
            "tokens": 3,
            "history": {
                "encoder": {"name": "onetrans", "blocks": 3, "heads": 2, "newest": 1},
                "readouts": ["target_state", "mean"],
            },
        },
        {"embedding": 8, "tokens": 2, "heads": {"name": "mmoe", "experts": 2}},
    ],
    "mdaf": [
        {},
        {"fusion": {"name": "context_gate"}},
        {"fusion": {"name": "concatenation"}, "branches": ["fields", "behaviour"]},
        {"fusion": {"name": "optfusion"}, "branches": ["cross", "fields", "behaviour"]},
        {"fusion": {"name": "optfusion", "connected": [0, 1], "operation": "product"}},
        {"history": {"readouts": ["last_state"], "products": False}},
        {
            "cross": {"heads": 2, "batch_norm": True},
            "history": {"encoder": {"norm": "post"}},
            "embedding": 8,
        },
        {"embedding": 8, "width": 16, "heads": {**GATED, "towers": [16]}},
        {"embedding": 8, "width": 16, "heads": {"name": "ple", "expert_widths": [16], "towers": [16]}},
    ],
    # Weights of its own, which gradient steps train, and linear terms, which are fitted.
    "lr": [
        {
            "crosses": None,
            "history": {"match_terms": False, "pair_terms": False, "co_occurrence_terms": False},
        },
        {},
    ],
    "rankmixer": [{}, {"tokens": 5, "token_width": 20, "blocks": 1}],
    "sasrec": [{}, {"history": {"encoder": {"heads": 2}, "readouts": ["target_state"]}}],
    "tokenmixer_large": [{}, {"tokens": 5, "token_width": 24, "mixing_heads": 4, "expand": 2}],
    "wukong": [{}, {"layers": 2, "fm_vectors": 4, "linear_vectors": 3, "fm_hidden": [], "hidden": [16]}],
    "xdeepfm": [{}, {"split_half": True, "activation": "relu", "maps": [8, 6, 5], "hidden": []}],
}
