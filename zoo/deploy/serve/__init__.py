"""A proven model behind HTTP: supervisor (processes) -> worker -> app -> reading -> batching -> subject."""
