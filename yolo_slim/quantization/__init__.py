"""What makes one exported graph int8 or fp16: calibration images, ranges, the QDQ and half-precision graphs."""
