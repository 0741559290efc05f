"""Step 3: to an upstream, or to the next one, until one answers."""
