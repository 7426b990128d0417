"""Texts to send, of the public sets: short chat, long mail, and mixed lengths, each drawn by a stated seed."""

from collections.abc import Sequence

import numpy as np
from tests.bench.sets import rows_of

SEED = 0
# Of a mixed load: chat messages, comments, and mails cut to what most mails have.
_MIX = {"chat": 0.70, "comment": 0.25, "mail": 0.05}
_MAIL_CHARACTERS = 4_000


def draw(kind: str, count: int, *, seed: int = SEED) -> list[str]:
    """Distinct texts, each once while there are enough of them.

    Args:
        kind: `chat` (clinc150 and banking77), `comment` (wiki_toxicity and sms), `mail` (spamassassin) or `mixed`.
        count: How many.
        seed: Of the order.
    """
    rng = np.random.default_rng(seed)
    if kind != "mixed":
        return _shuffled(_pool(kind), count, rng)
    each = {name: round(share * count) for name, share in _MIX.items()}
    each["chat"] += count - sum(each.values())
    texts = [text for name, own in each.items() for text in _shuffled(_pool(name), own, rng)]
    return [texts[i] for i in rng.permutation(len(texts))]


def repeated(texts: Sequence[str], share: float, *, seed: int = SEED) -> list[str]:
    """As many texts, of which a share repeats one that went before."""
    rng = np.random.default_rng(seed)
    sent: list[str] = []
    fresh = iter(texts)
    for again in rng.random(len(texts)) < share:
        sent.append(sent[int(rng.integers(len(sent)))] if again and sent else next(fresh))
    return sent


def _pool(kind: str) -> list[str]:
    if kind == "chat":
        texts = [row.text for name in ("clinc150", "banking77") for row in rows_of(name)]
    elif kind == "comment":
        texts = [row.text for name in ("wiki_toxicity", "sms_spam_collection") for row in rows_of(name)]
    else:
        texts = [row.text[:_MAIL_CHARACTERS] for row in rows_of("spamassassin")]
    return list(dict.fromkeys(text for text in texts if text.strip()))


def _shuffled(pool: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    order = [i for _ in range(-(-count // len(pool))) for i in rng.permutation(len(pool))]
    return [pool[i] for i in order[:count]]
