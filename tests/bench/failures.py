"""Fails a service's store in every way that there is, while the service is called at a steady rate.

    python -m tests.bench.failures [--seconds 12] [--output FILE]

The store is Qdrant's protocol on top of the embedded engine (`tests/qdrant`), behind a proxy that spoils what goes
through it; one service, with the encoder without a model, lives through all of it, and gives its store four seconds.
Ends with 1 when a call was answered wrong, ended in another status than UNAVAILABLE, an acknowledged addition was lost,
or the service did not come back by itself.
"""

import argparse
import asyncio
import json
import tempfile
from pathlib import Path

from tests.integration.failures import FAILURES, suffering


async def main() -> None:
    """Fails and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=12.0)  # health is asked each 5 s, and may wait as long
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    outcomes, wrong = [], []
    with tempfile.TemporaryDirectory() as folder, suffering(Path(folder), Path(folder) / "store") as sufferer:
        for failure in FAILURES:
            outcome = await sufferer.suffer(failure, asked.seconds)
            outcomes.append(outcome.figures())
            wrong += outcome.whats_wrong(garbled=failure.garbles)
            print(json.dumps(outcomes[-1]), flush=True)
    if asked.output is not None:
        asked.output.write_text(json.dumps({"seconds": asked.seconds, "failures": outcomes}, indent=1) + "\n")
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    asyncio.run(main())
