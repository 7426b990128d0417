"""From text to vectors: models, encoders, and the batching of texts that arrive together."""

import os

# Libraries of models tell their makers how they are used unless they are told not to before they are imported, which is
# in this room alone. ONNX Runtime does so from 1.29 on (DECISIONS 85).
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
