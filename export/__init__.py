"""From a subnet and a supernet folder to float ONNX, INT8 ONNX and a deployable package."""
