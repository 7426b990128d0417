"""What is learned from a task's examples, and how well it does."""
