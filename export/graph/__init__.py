"""ONNX graphs of subnets."""
