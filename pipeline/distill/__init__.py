"""The method: wavelets, prompts, losses and the taps that they read."""

from pipeline.distill.losses import build_loss

__all__ = ["build_loss"]
