"""An accepted model behind HTTP: supervisor (processes) -> worker -> app -> reading -> batching -> subject."""
