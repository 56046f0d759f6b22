"""Structured channel pruning: find what must go together, score it, allocate the cut, make it.

``groups`` -> ``importance`` -> ``allocation`` -> ``plan`` -> ``surgery``; the stage in :mod:`yolo_slim.stages.prune` chains them.
"""
