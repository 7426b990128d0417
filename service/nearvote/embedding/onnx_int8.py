"""Writing an exported graph with weights in whole numbers of 8 bits: a program, which `onnx_apart.py` runs.

Weights by channel, activations as they come (dynamic quantization), with one bit less than there is: without VNNI,
products of 8 bits overflow the 16 bits that their sums have.
"""

from onnxruntime.quantization import QuantType, quantize_dynamic

from nearvote.apart import answer


def _quantize(model: str, small: str) -> None:
    quantize_dynamic(model, small, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)


if __name__ == "__main__":
    answer(_quantize)
