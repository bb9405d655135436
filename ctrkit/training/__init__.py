"""The training loop, its losses and its checkpoints, and prediction."""

from ctrkit.training.loop import History, TrainingConfig, fit
from ctrkit.training.prediction import predict, predict_candidates

__all__ = ["History", "TrainingConfig", "fit", "predict", "predict_candidates"]
