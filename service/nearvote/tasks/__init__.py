"""Tasks: the questions asked of messages."""
