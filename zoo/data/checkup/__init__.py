"""The doctor of datasets: every image looked at once, pictures compared, findings, and a page to see them on."""
