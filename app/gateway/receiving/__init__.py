"""The client's side: its request as it is read, and what it is sent."""
