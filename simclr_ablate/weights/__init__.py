"""Weights in and out: encoders that others have pretrained, and ours for others (docs/weights.md)."""

FORMATS = ("torchvision", "timm", "hf", "npz")
"""What encoders are exported to."""
