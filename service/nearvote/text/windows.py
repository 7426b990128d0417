"""Windows over texts that are longer than the encoder's input."""


def window_spans(token_count: int, size: int, overlap: int) -> list[tuple[int, int]]:
    """Spans that cover all tokens, evenly spread, so that the last window is as full as the others.

    Args:
        token_count: Tokens of the text, 0 or more.
        size: Tokens a window can hold, 1 or more.
        overlap: Tokens that neighbouring windows share at least, 0 to `size - 1`.

    Returns:
        (start, end) for each window, end exclusive; empty for a text without tokens.

    Raises:
        ValueError: `size` or `overlap` is out of range.
    """
    if size < 1 or not 0 <= overlap < size:
        raise ValueError(f"size {size} and overlap {overlap} make no windows")
    if token_count <= 0:
        return []
    if token_count <= size:
        return [(0, token_count)]
    stride = size - overlap
    steps = -(-(token_count - size) // stride)  # windows after the first
    return [(start, start + size) for start in (i * (token_count - size) // steps for i in range(steps + 1))]
