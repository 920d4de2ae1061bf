"""What runs on the device: numpy, onnxruntime, Pillow and the standard library; nothing else of zoo."""
