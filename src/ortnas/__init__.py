"""Hardware-aware neural architecture search for INT8 BERT encoders on ONNX Runtime."""
