"""Fused training: trials whose models have the same shapes, trained as one batched model."""
