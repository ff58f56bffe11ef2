"""Timing of ONNX models on a host. Needs numpy and onnxruntime only and imports nothing else of the project."""
