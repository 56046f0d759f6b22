"""Frozen, typed configuration of a run and of a device profile; every problem of a file is reported at once.

Host half only (pydantic). A device reads ``bundle.json`` instead, see :mod:`yolo_slim.bundle`.
"""
