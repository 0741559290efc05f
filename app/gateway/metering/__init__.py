"""What an answer says of its usage, found as it passes; and a count of our own where it says nothing."""
