"""Before a run: does it fit, and how long will it take? Arithmetic only; nothing is loaded."""
