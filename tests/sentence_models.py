"""Folders of sentence-transformers, written by the library itself around a small random encoder.

As a script, for an interpreter that has the library and nothing of the project: a list of [case, base, folder, texts]
(JSON) writes the folders and prints what the models make of the texts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# By name: poolings, modules behind them (kind and settings), and what the model is made with.
CASES: dict[str, tuple[list[str], list[tuple[str, dict[str, Any]]], dict[str, Any]]] = {
    "cls": (["cls"], [("Normalize", {})], {}),
    "max": (["max"], [("Normalize", {})], {}),
    "root of the length": (["mean_sqrt_len_tokens"], [("Normalize", {})], {}),
    "weighted": (["weightedmean"], [("Normalize", {})], {"similarity_fn_name": "dot"}),
    "last": (["lasttoken"], [("Normalize", {})], {}),
    "all": (["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"], [], {}),
    "another order": (["mean", "cls"], [("Dropout", {})], {}),
    "dense": (["mean"], [("Dense", {"out_features": 24})], {}),
    "dense of max": (["max"], [("Dense", {"out_features": 40, "activation": "Identity", "bias": False})], {}),
    "chain": (
        ["mean", "max"],
        [
            ("LayerNorm", {}),
            ("Dense", {"out_features": 20, "activation": "GELU"}),
            ("Dense", {"out_features": 12, "activation": "Sigmoid", "bias": False}),
            ("Normalize", {}),
        ],
        {"truncate_dim": 10},
    ),
    "prompts": (
        ["mean"],
        [("Normalize", {})],
        {"prompts": {"query": "in it: ", "document": ""}, "default_prompt_name": "query"},
    ),
    "length and case": (["mean"], [("Normalize", {})], {"max_seq_length": 9, "do_lower_case": True}),
}


def settle_tokenizer(folder: Path) -> Path:
    """Makes every release of transformers read a checkpoint's tokenizer as BERT's own class does, with token types."""
    path = folder / "tokenizer_config.json"
    names = ["input_ids", "token_type_ids", "attention_mask"]
    changes = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": names}
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def write_sentence_model(case: str, base: Path, folder: Path) -> Any:
    """The model, which is in the folder too."""
    import torch
    from sentence_transformers import SentenceTransformer, models

    modes, chain, settings = CASES[case]
    reading = {key: value for key, value in settings.items() if key in ("max_seq_length", "do_lower_case")}
    made_with = {key: value for key, value in settings.items() if key not in reading}
    torch.manual_seed(3)
    transformer = models.Transformer(str(base), **reading)
    width = 32 * len(modes)
    modules: list[Any] = [transformer, models.Pooling(32, modes)]
    for kind, options in chain:
        options = dict(options)
        if kind == "Dense":
            activation = getattr(torch.nn, options.pop("activation", "Tanh"))()
            modules.append(models.Dense(width, activation_function=activation, **options))
            width = options["out_features"]
        elif kind == "LayerNorm":
            modules.append(models.LayerNorm(width))
        else:
            modules.append(getattr(models, kind)())
    model = SentenceTransformer(modules=modules, device="cpu", **made_with)
    with torch.no_grad():
        for module in modules[2:]:
            for parameter in module.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save(str(folder))
    return model


def write_cross_encoder(case: str, base: Path, folder: Path) -> Any:
    """The model, which is in the folder too; ``case`` is the name of its activation in torch."""
    import torch
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(base), device="cpu", max_length=12, activation_fn=getattr(torch.nn, case)())
    model.save(str(folder))
    return model


def outputs_of(model: Any, texts: list[Any]) -> list[Any]:
    """What ``encode`` gives without a prompt and by each prompt, [name, vectors]; of a cross-encoder, its scores."""
    if hasattr(model, "encode"):
        return [[name, model.encode(texts, prompt_name=name).tolist()] for name in (None, *model.prompts)]
    scores: list[Any] = model.predict([tuple(pair) for pair in texts]).tolist()
    return scores


if __name__ == "__main__":
    answers = []
    for case, base, folder, texts in json.loads(sys.argv[1]):
        write = write_sentence_model if case in CASES else write_cross_encoder
        answers.append(outputs_of(write(case, Path(base), Path(folder)), texts))
    print(json.dumps(answers))
