"""Model types that are met often and not supported: why not, and what is nearest."""

from __future__ import annotations

_ORDINARY = "nearest is a bert, roberta, mpnet or modernbert checkpoint of its size and language"
_GATED = f"gated FFNs are computed with norms before the products alone; {_ORDINARY}"
_FAR_TOKENS = "some of its tokens look far and others do not; nearest is modernbert, which reads 8,192 tokens"

REFUSED = {
    "albert": f"its layers share one set of weights, so that none can be left out or cut by itself; {_ORDINARY}",
    "deberta": (
        "its first version projects tokens and positions otherwise than the later ones; nearest is deberta-v2, which "
        "all of DeBERTa-v3 are"
    ),
    "nomic_bert": _GATED,
    "gte": _GATED,
    "new": f"its code is not part of transformers, and no code of checkpoints is run; {_ORDINARY}",
    "eurobert": f"its heads share keys and values, and its norms do not centre; {_ORDINARY}",
    "xlm": "its embeddings know languages; nearest is xlm-roberta",
    "xlnet": f"it permutes its texts; {_ORDINARY}",
    "longformer": _FAR_TOKENS,
    "big_bird": _FAR_TOKENS,
    "t5": f"it is an encoder with a decoder; {_ORDINARY}",
    "bart": f"it is an encoder with a decoder; {_ORDINARY}",
    **dict.fromkeys(("gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma3_text"), f"it is a decoder; {_ORDINARY}"),
}
