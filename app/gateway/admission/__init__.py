"""Step 1 and 2: who calls, whether the call may be made, and what is held for it."""
