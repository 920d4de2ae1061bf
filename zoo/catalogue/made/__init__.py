"""A name -> the thing behind it, made by its plugin and held to its contract."""
