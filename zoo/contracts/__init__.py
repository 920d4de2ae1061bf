"""Words that cross a border: to plugins, to files, to devices."""
