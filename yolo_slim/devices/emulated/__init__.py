"""A Raspberry Pi's processor emulated by QEMU: it proves that a bundle works there, and nothing of its speed."""
