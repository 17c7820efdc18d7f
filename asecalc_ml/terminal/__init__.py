"""What a user sees of long work: progress in a terminal."""
