"""Files: where they live, how they are written and fetched. The only room that does either."""
