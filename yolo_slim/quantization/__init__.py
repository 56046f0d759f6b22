"""From one exported graph to int8 and fp16: calibration images, ranges, the layers that stay float, the graphs."""
