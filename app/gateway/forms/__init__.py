"""What clients upload: multipart forms, kept outside memory, and how long a sound is."""
