"""How many texts a second infinity-emb embeds. `peers_speed.py` runs it in an environment that has infinity-emb.

python peer_infinity.py MODEL_FOLDER FILE
"""

import asyncio
import json
import sys
import time
from pathlib import Path

from infinity_emb import AsyncEmbeddingEngine, EngineArgs  # type: ignore[import-not-found]

_BULK = 512

texts = json.loads(Path(sys.argv[2]).read_text())


async def main() -> None:
    """Measures and prints JSON."""
    arguments = EngineArgs(model_name_or_path=sys.argv[1], engine="torch", device="cpu", bettertransformer=False)
    engine = AsyncEmbeddingEngine.from_args(arguments)
    async with engine:  # which gives nothing
        await engine.embed(sentences=texts[:64])
        began = time.perf_counter()
        for start in range(0, len(texts), _BULK):
            await engine.embed(sentences=texts[start : start + _BULK])
        print(json.dumps({"rate": len(texts) / (time.perf_counter() - began)}))


asyncio.run(main())
