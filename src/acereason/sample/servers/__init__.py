"""Sampling from servers: vLLM's with weights published to them, and any that serve a fixed model."""
