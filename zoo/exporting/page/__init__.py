"""An artifact's page: pictures and tables of its proof."""
