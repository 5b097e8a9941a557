"""Accuracy with honest errors: of a run after each stage, and of any model on published benchmarks."""
