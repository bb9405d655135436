"""The training loop, its losses and its checkpoints, and prediction."""

from ctrkit.errors import TrainingWarning
from ctrkit.training.loop import TrainingConfig, TrainingHistory, fit
from ctrkit.training.prediction import predict, predict_candidates

__all__ = ["TrainingConfig", "TrainingHistory", "TrainingWarning", "fit", "predict", "predict_candidates"]
