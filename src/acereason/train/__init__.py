"""Learning: supervised fine-tuning, reinforcement learning in stages, and exact checkpoints."""
