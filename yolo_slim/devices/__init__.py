"""How a bundle reaches a device and an answer comes back. One module per way."""
