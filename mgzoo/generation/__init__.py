"""What a request may hold, where its result goes, and what is recorded in it. No torch until a file is read."""
