"""The stages of the chain: functions of files, each of which leaves a manifest as its last act."""
