"""A night: a matrix of cells is made, measured beside its references, recorded and judged."""
