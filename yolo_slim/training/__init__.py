"""Training that keeps a pruned network's widths, and the distillation that brings its accuracy back."""
