"""The training loop, its losses and its checkpoints."""

from ctrkit.training.loop import History, TrainingConfig, fit, predict

__all__ = ["History", "TrainingConfig", "fit", "predict"]
