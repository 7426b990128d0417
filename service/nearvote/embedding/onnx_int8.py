"""Writing an exported graph with weights in whole numbers of 8 bits, which `onnx_apart.py` has done apart.

Weights by channel, activations as they come (dynamic quantization), with one bit less than there is: without VNNI,
products of 8 bits overflow the 16 bits that their sums have.
"""

from onnxruntime.quantization import QuantType, quantize_dynamic


def quantize(model: str, small: str) -> None:
    """Writes the version in 8 bits of a graph, `model`, to `small`: both are paths."""
    quantize_dynamic(model, small, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
