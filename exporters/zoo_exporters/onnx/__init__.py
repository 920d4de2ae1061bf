"""ONNX files: made at fp32, and turned into every other precision; run by onnxruntime."""
