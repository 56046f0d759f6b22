"""A live camera: capture, detect, show, and stay up."""
