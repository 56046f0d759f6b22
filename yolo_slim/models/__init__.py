"""Trained networks: checkpoints, their size, and what talks to Ultralytics."""
