"""Builds a small pair with real weights from package registries: DINOv2 ViT-S/14, a projector, SmolLM2-135M."""
