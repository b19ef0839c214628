"""Layers that several towers share: attention, MLP, patch and position embeddings."""
