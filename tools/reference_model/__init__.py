"""Independent float64 model of what the patched library computes (see reference.py)."""
