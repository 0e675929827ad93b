"""From a Hugging Face checkpoint folder to a pair of GGUF files."""
