"""What earlier nights measured: one SQLite file, its typed rows, and the statistics that compare two of them."""
