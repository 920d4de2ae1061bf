"""Arrays -> numbers -> words and pages; knows no run, no data, no artifact."""
