"""Random-weight GGUF models: their shapes, their weights and how they are written."""
