"""Pages that carry everything in themselves: HTML with charts in SVG, no scripts, nothing from any other host."""
