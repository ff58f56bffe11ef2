"""Whether a full model learned more of its task than one answer for all texts would get right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ortnas.export.intervals import Interval
from ortnas.export.metrics import METRICS
from ortnas.export.part import Part
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.console import Console
from ortnas.nas.run.texts import Texts
from ortnas.nas.wording import shown
from ortnas.search.intervals import sample_scores

if TYPE_CHECKING:
    from ortnas.nas.training.supernet import Supernet

# So many texts tell well enough, and do not hold up the training of a large network.
_MOST_TEXTS = 256


def judge_teacher(console: Console, texts: Texts, teacher: Supernet) -> None:
    """``warn_of_chance`` on the search part, before time is spent on subnets that learn from the teacher."""
    from ortnas.nas.training.steps import network_outputs

    head, metric = teacher.dimensions.head, texts.text_metric
    if not _is_judged(head):
        return
    part = texts.part("search").first(_MOST_TEXTS)
    outputs = network_outputs(teacher, part.encoded, teacher.dimensions.full_subnet)
    score = sample_scores(metric, {"teacher": outputs}, part).score("teacher")
    warn_of_chance(console, head, metric, score, part, "search")


def warn_of_chance(console: Console, head: str, metric: str, score: Interval, part: Part, part_name: str) -> None:
    """Says where the full model may have learned nothing of texts with classes or numbers."""
    if _is_judged(head) and (other := no_worse(metric, score, part)):
        console.say(
            f"warning: the full model's {metric.replace('_', ' ')} of {score.value:.4f} on {len(part.encoded)} texts "
            f"of the {part_name} part may be chance, {other}, and subnets learn from this model: it needs more steps "
            f"(training.minutes, training.teacher_steps) or more labelled texts, or a search.metric that sees rare "
            f"labels"
        )


def no_worse(metric: str, score: Interval, part: Part) -> str:
    """What else would get a score within or above the 95 % interval of a model's: the commonest label for all texts,
    or for numbers any others; empty where the model is better."""
    if not part.label_names:
        return "" if score.low > 0 else "since numbers that have nothing to do with them get 0"
    counts = np.bincount(part.labels.astype(np.int64), minlength=len(part.label_names))
    # As logits, so that likelihoods are those of the labels' shares; none is of a share of 0.
    base = METRICS[metric]([np.log(counts + 0.5).astype(np.float32)] * len(part.encoded), part)
    commonest = shown(part.label_names[int(counts.argmax())])
    return "" if score.low > base else f"since {commonest} for all of them gets {base:.4f}"


def _is_judged(head: str) -> bool:
    return HEADS[head].labels in ("class", "number")
