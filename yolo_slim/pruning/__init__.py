"""Structured channel pruning: find what must go together, score it, allocate the cut, make it.

``groups`` -> ``importance`` -> ``allocation`` -> ``plan`` -> ``surgery``, chained by the stage
:mod:`yolo_slim.stages.prune`.
"""
