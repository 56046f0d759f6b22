"""Detections to numbers: mAP, gates, verdict."""
