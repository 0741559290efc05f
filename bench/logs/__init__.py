"""Ten million rows of the call log: filled, asked for, summed up, exported, and added to."""
