"""From weights to ONNX, what is proven of the graph, and what travels with it."""
