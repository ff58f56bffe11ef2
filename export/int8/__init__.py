"""INT8 by ONNX Runtime's quantizer."""
