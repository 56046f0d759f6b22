"""From measurements to pass, fail or unproven."""
