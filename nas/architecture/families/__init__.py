"""The model families, by their model type in transformers; a family is one file here and one line below."""

from __future__ import annotations

from ortnas.nas.architecture.families.bert import BERT
from ortnas.nas.architecture.families.deberta_v2 import DEBERTA_V2
from ortnas.nas.architecture.families.distilbert import DISTILBERT
from ortnas.nas.architecture.families.electra import ELECTRA
from ortnas.nas.architecture.families.family import Family
from ortnas.nas.architecture.families.jina import JINA_V3
from ortnas.nas.architecture.families.modernbert import MODERNBERT
from ortnas.nas.architecture.families.mpnet import MPNET
from ortnas.nas.architecture.families.roberta import CAMEMBERT, ROBERTA, XLM_ROBERTA

__all__ = ["FAMILIES", "Family"]

FAMILIES: dict[str, Family] = {
    "bert": BERT,
    "roberta": ROBERTA,
    "xlm-roberta": XLM_ROBERTA,
    "camembert": CAMEMBERT,
    "distilbert": DISTILBERT,
    "electra": ELECTRA,
    "mpnet": MPNET,
    "modernbert": MODERNBERT,
    "deberta-v2": DEBERTA_V2,
    "jina_embeddings_v3": JINA_V3,
}
