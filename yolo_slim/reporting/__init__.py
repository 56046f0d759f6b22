"""A validation for people: one HTML file, or plain text."""
