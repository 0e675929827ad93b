"""OpenVINO and transformers on the shapes that this library is timed with, and the limits of the processor."""
