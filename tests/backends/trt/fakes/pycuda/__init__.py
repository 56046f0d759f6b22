"""A PyCUDA without a GPU: see :mod:`pycuda.driver`."""

VERSION_TEXT = "2026.1-fake"
