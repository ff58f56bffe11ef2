"""Whether a full model learned more of its task than one answer for all texts would get right."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ortnas.export.part import Outputs, Part
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.console import Console
from ortnas.nas.run.texts import Texts
from ortnas.nas.text import take
from ortnas.nas.wording import shown
from ortnas.search.intervals import sample_scores

if TYPE_CHECKING:
    from ortnas.nas.training.supernet import Supernet

# So many texts tell well enough, and take seconds.
_MOST_TEXTS = 1000


def warn_of_chance(console: Console, texts: Texts, teacher: Supernet) -> None:
    """Says where the teacher may have learned nothing, before time is spent on subnets that learn from it."""
    from ortnas.nas.training.steps import network_outputs

    head = teacher.dimensions.head
    if HEADS[head].labels not in ("class", "number"):
        return
    part = texts.part("search")
    part = replace(part, encoded=take(part.encoded, _MOST_TEXTS), examples=part.examples[:_MOST_TEXTS])
    outputs = network_outputs(teacher, part.encoded, teacher.dimensions.full_subnet)
    if doubt := chance(texts.text_metric, outputs, part):
        console.say(
            f"warning: {doubt}, and subnets learn from this model: it needs more steps (training.minutes, "
            f"training.teacher_steps) or more labelled texts, or a search.metric that sees rare labels"
        )


def chance(metric: str, outputs: Outputs, part: Part) -> str:
    """What else would score as a model does on texts with classes or numbers: the commonest label for all of them, or
    for numbers anything; empty where the model is better, by the 95 % interval of a paired bootstrap."""
    if part.label_names:
        counts = np.bincount(part.labels.astype(np.int64), minlength=len(part.label_names))
        # As logits, so that likelihoods are those of the labels' shares; none is of a share of 0.
        one_answer = [np.log(counts + 0.5).astype(np.float32)] * len(outputs)
        commonest = int(counts.argmax())
        sampled = sample_scores(metric, {"model": outputs, "one answer": one_answer}, part)
        low = sampled.difference("model", "one answer").low
        other = f"{shown(part.label_names[commonest])} for all of them gets {sampled.whole['one answer']:.4f}"
    else:
        sampled = sample_scores(metric, {"model": outputs}, part)
        low, other = sampled.score("model").low, "numbers that have nothing to do with them get 0"
    if low > 0:
        return ""
    return (
        f"the full model's {metric.replace('_', ' ')} of {sampled.whole['model']:.4f} on {len(outputs)} texts of the "
        f"search part may be chance; {other}"
    )
