"""The paper's findings as experiments that anyone can run again: claims, arms, seeds, verdicts."""
