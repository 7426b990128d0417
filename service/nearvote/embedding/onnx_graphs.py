"""What is exported: a model's transformer, pooling and the rest as one graph, from token ids to vectors."""

from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from transformers import PreTrainedModel

from nearvote.embedding.torch_encoder import pooling_of

# What a token pays no attention to. Not minus infinity: a softmax over nothing else would be no number.
_UNSEEN = -1e9


class Padded(torch.nn.Module):
    """Windows side by side, filled up to the longest: what every model takes."""

    inputs = ("input_ids", "attention_mask")
    sample = (torch.tensor([[5, 6, 7, 8], [5, 6, 7, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]))

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """(n, longest) ids and mask in, (n, dimension) vectors out."""
        features = self.model({"input_ids": input_ids, "attention_mask": attention_mask})
        return torch.nn.functional.normalize(features["sentence_embedding"], dim=1)


class Packed(torch.nn.Module):
    """Windows end to end in rows, so that few are filled up: each token has attention for its own window alone.

    Args:
        model: One that `can_pack`.

    Raises:
        ValueError: It has no transformer.
    """

    inputs = ("input_ids", "positions", "window_of", "lengths")
    sample = (
        torch.tensor([[5, 6, 7, 8, 5, 6, 7], [5, 6, 7, 8, 9, 0, 0]]),
        torch.tensor([[0, 1, 2, 3, 0, 1, 2], [0, 1, 2, 3, 4, 0, 0]]),
        torch.tensor([[0, 0, 0, 0, 1, 1, 1], [2, 2, 2, 2, 2, 3, 3]]),
        torch.tensor([4, 3, 5]),
    )

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        transformer = transformer_of(model)
        if transformer is None:
            raise ValueError("a model without a transformer can't be packed")
        self.transformer = transformer
        self.rest = torch.nn.Sequential(*list(model)[2:])

    def forward(
        self, input_ids: torch.Tensor, positions: torch.Tensor, window_of: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        """(rows, longest) ids, places in the window and windows, (n,) lengths in, (n, dimension) vectors out."""
        own = window_of[:, :, None] == window_of[:, None, :]
        hidden = self.transformer(
            input_ids=input_ids,
            token_type_ids=torch.zeros_like(input_ids),
            position_ids=positions,
            attention_mask=torch.where(own, 0.0, _UNSEEN)[:, None],
        ).last_hidden_state.flatten(0, 1)
        members = (window_of.flatten()[None, :] == torch.arange(lengths.shape[0])[:, None]).to(hidden.dtype)
        means = members @ hidden / lengths[:, None].to(hidden.dtype)
        return torch.nn.functional.normalize(self.rest({"sentence_embedding": means})["sentence_embedding"], dim=1)


def can_pack(model: SentenceTransformer) -> bool:
    """Whether a model takes windows end to end: BERT, with the mean of its tokens. The check of the export decides."""
    transformer: Any = transformer_of(model)
    kind = getattr(getattr(transformer, "config", None), "model_type", "")
    return kind == "bert" and pooling_of(model) == "mean"


def transformer_of(model: SentenceTransformer) -> PreTrainedModel | None:
    """The transformer in a model; None for a model without one."""
    return next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
