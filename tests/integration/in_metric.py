"""`nearvote`, whose fits serve in their metric whether that helps or not: each of them fills a slot."""

from dataclasses import replace
from typing import Any

from nearvote.cli import main
from nearvote.learn import learner
from nearvote.learn.fitting import Learned, fit_corpus


def _in_metric(*arguments: Any, **limits: Any) -> Learned:
    learned = fit_corpus(*arguments, **limits)
    return replace(learned, in_metric=True, figures={**learned.figures, "has_metric": True})


if __name__ == "__main__":
    learner.fit_corpus = _in_metric  # type: ignore[attr-defined]  # looked up there with each fit
    main()
