"""A model's tokenizer, without its truncation and padding."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from nearvote.embedding.encoder import Tokens
from nearvote.embedding.rows import arrange


class ModelTokenizer:
    """Texts to token ids, and windows of these to a padded batch.

    Args:
        path: The model's `tokenizer.json`.
        pad_id: The id that fills a batch up.
    """

    def __init__(self, path: Path, pad_id: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._pad_id = pad_id
        # What the model wants around every input: [CLS] and [SEP], <s> and </s>, or nothing.
        bare = self._tokenizer.encode("a", add_special_tokens=False).ids
        framed = self._tokenizer.encode("a").ids
        extra = len(framed) - len(bare)
        start = next(i for i in range(extra + 1) if framed[i : i + len(bare)] == bare)
        self._prefix, self._suffix = framed[:start], framed[start + len(bare) :]

    @property
    def special_tokens(self) -> int:
        """How many tokens the model wants around every input."""
        return len(self._prefix) + len(self._suffix)

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Token ids of each text, whole, without special tokens."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]

    def pad(self, windows: Sequence[Tokens]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """A batch of windows, framed by special tokens and filled up to the longest.

        Returns:
            Token ids and attention mask, each (n, longest) int64.
        """
        longest = max(len(window) for window in windows) + self.special_tokens
        ids = np.full((len(windows), longest), self._pad_id, dtype=np.int64)
        mask = np.zeros((len(windows), longest), dtype=np.int64)
        begin = len(self._prefix)
        for row, window in enumerate(windows):
            end = begin + len(window)
            ids[row, :begin] = self._prefix
            ids[row, begin:end] = window
            ids[row, end : end + len(self._suffix)] = self._suffix
            mask[row, : end + len(self._suffix)] = 1
        return ids, mask

    def pack(self, windows: Sequence[Tokens]) -> tuple[npt.NDArray[np.int64], ...]:
        """A batch of windows, each framed by special tokens, end to end in rows.

        Returns:
            Of each token its id, its place in its window, and its window, each (rows, longest) int64, where the number
            of windows stands for none; and the length of each window, (n,) int64.
        """
        framed = [(*self._prefix, *window.tolist(), *self._suffix) for window in windows]
        lengths = [len(window) for window in framed]
        rows = arrange(lengths)
        longest = max(sum(lengths[place] for place in row) for row in rows)
        ids = np.full((len(rows), longest), self._pad_id, dtype=np.int64)
        places = np.zeros_like(ids)
        window_of = np.full_like(ids, len(windows))
        for number, row in enumerate(rows):
            begin = 0
            for window in row:
                end = begin + lengths[window]
                ids[number, begin:end] = framed[window]
                places[number, begin:end] = np.arange(lengths[window])
                window_of[number, begin:end] = window
                begin = end
        return ids, places, window_of, np.array(lengths, np.int64)
