"""Explanations of a model: shares of a probability by feature and past event, permutation importance, partial
dependence, attention weights, and maps of embeddings.

captum, shap, openTSNE and umap-learn are the extra `ctrkit[explain]`, imported when a method needs them.
"""

from ctrkit.explanations.attention import attention_weights
from ctrkit.explanations.attributions import Attributions
from ctrkit.explanations.dependence import Dependence, partial_dependence
from ctrkit.explanations.features import HISTORY, Names, sample, take, units
from ctrkit.explanations.gates import FusionGate, FusionShares, GateDistribution, fusion_gates
from ctrkit.explanations.gradients import deepshap, integrated_gradients
from ctrkit.explanations.maps import HIDDEN, EmbeddingMap, lay_out, table_vectors
from ctrkit.explanations.permutation import Importance, Probabilities, Repeated, permutation_importance
from ctrkit.explanations.rows import Contribution, PastEvent, RowExplanation, explain_rows
from ctrkit.explanations.shapley import shapley_values

__all__ = [
    "HIDDEN",
    "HISTORY",
    "Attributions",
    "Contribution",
    "Dependence",
    "EmbeddingMap",
    "FusionGate",
    "FusionShares",
    "GateDistribution",
    "Importance",
    "Names",
    "PastEvent",
    "Probabilities",
    "Repeated",
    "RowExplanation",
    "attention_weights",
    "deepshap",
    "explain_rows",
    "fusion_gates",
    "integrated_gradients",
    "lay_out",
    "partial_dependence",
    "permutation_importance",
    "sample",
    "shapley_values",
    "table_vectors",
    "take",
    "units",
]
