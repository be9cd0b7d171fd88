"""Frame in, targets out, as one ONNX graph of standard operators."""
