"""What a model holds and what ONNX Runtime makes of it."""
