"""OpenVINO for edgezoo: an exporter, found by its entry point."""
