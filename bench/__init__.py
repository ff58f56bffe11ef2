"""Timing of ONNX models on a host. Needs numpy and onnxruntime only and imports nothing else of the project."""

import os

# From 1.29 on, ONNX Runtime reports on models and their speed over the network, from a thread that runs beside them.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
