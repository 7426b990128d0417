"""The labelled examples, and the store that keeps and searches them."""
