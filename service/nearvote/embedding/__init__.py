"""From text to vectors: models, encoders, and the batching of texts that arrive together."""
