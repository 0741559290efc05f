"""Steps 4 and 5: the answer as it passes to the client, what the call came to, and its settlement."""
