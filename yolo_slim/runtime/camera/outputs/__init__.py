"""What a camera gives besides its picture: lines of JSON, messages, metrics, clips, counts, and a service."""
