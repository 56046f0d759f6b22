"""Figures, counts and events to an MQTT broker, found by Home Assistant by itself."""
