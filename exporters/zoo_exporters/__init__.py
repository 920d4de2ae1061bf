"""The exporters that come with zoo; they enter through the same door as a stranger's."""
