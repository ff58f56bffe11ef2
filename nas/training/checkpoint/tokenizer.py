"""A checkpoint's tokenizer: its own ``tokenizer.json`` decides, whatever class its settings name.

transformers 5 builds normalizer and pre-tokenizer anew from the class that ``tokenizer_config.json`` names, and with
that other tokens than the file's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, normalizers
from tokenizers.processors import TemplateProcessing

from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.failures import CheckpointError
from ortnas.nas.files import write_json
from ortnas.nas.text import TOKENIZER_FILE, TokenizerError, load_tokenizer
from ortnas.nas.training.checkpoint.config import CheckpointConfig
from ortnas.nas.training.checkpoint.folder import read_file
from ortnas.nas.wording import said, shortened, shown

SETTINGS_FILE = "tokenizer_config.json"
_MAP_FILE = "special_tokens_map.json"
# Files that transformers can make a fast tokenizer of where there is none.
_SOURCES = ("vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model")
# A role's usual tokens: BERT's, then RoBERTa's.
_ROLES = {
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "mask_token": ("[MASK]", "<mask>"),
}
# Keys of config.json that name the id of a role's token.
_IDS = {
    "pad_token_id": "pad_token",
    "cls_token_id": "cls_token",
    "sep_token_id": "sep_token",
    "mask_token_id": "mask_token",
    "unk_token_id": "unk_token",
    "bos_token_id": "cls_token",
    "eos_token_id": "sep_token",
}
# Texts that tell kinds of tokenizers apart: case, accents, blanks, punctuation, other scripts, special tokens.
_PROBES = (
    "The of",
    "Hello World, it's 2 o'clock!",
    "na\u00efve CAF\u00c9 \u00dcber stra\u00dfe",
    "  two  blanks\tand a tab ",
    "\u6771\u4eac \u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u0e20\u0e32\u0e29\u0e32",
    "a-b_c/d @e #f $5.00 (g) [h]",
    "\U0001f600 \u2014 \u201cquoted\u201d \ufb01n",
)


@dataclass(frozen=True)
class CheckpointTokenizer:
    """``roles`` names the special tokens that there are, by transformers' keys; ``notes`` are sentences for the user.

    ``backend`` neither cuts nor pads.
    """

    backend: Tokenizer
    roles: dict[str, str]
    input_names: tuple[str, ...]
    longest: int | None
    notes: tuple[str, ...]

    def token_id(self, role: str) -> int | None:
        token = self.roles.get(role)
        return None if token is None else self.backend.token_to_id(token)

    def save(self, folder: Path) -> None:
        """Writes the tokenizer's file, and settings with which transformers reads that file as it is."""
        folder.mkdir(parents=True, exist_ok=True)
        self.backend.save(str(folder / TOKENIZER_FILE))
        settings: dict[str, Any] = {
            # The one class of transformers 4 and 5 that takes every part from the file.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_input_names": list(self.input_names),
            **self.roles,
        }
        if self.longest is not None:
            settings["model_max_length"] = self.longest
        write_json(folder / SETTINGS_FILE, settings)


def read_tokenizer(config: CheckpointConfig, folder: Path, head: str, lower: bool = False) -> CheckpointTokenizer:
    """``lower`` puts texts in lower case first. Raises CheckpointError where there is no tokenizer, or where it does
    not belong to the model."""
    name, notes = config.name, list[str]()
    document = _settings(name, folder)
    if (folder / TOKENIZER_FILE).is_file():
        try:
            backend = load_tokenizer(folder)
        except TokenizerError as error:
            raise CheckpointError(f"checkpoint {name}: its tokenizer cannot be read: {said(error)}") from error
        roles = _roles(name, document, backend)
        if "auto_map" in document:
            notes.append(
                f"{SETTINGS_FILE} names a tokenizer in code of its own (auto_map), of which nothing is executed; "
                f"{TOKENIZER_FILE} decides"
            )
        notes += _other_tokens(folder, backend)
    elif "auto_map" in document:
        raise CheckpointError(
            f"checkpoint {name}: its tokenizer is code of its own (auto_map in {SETTINGS_FILE}), of which nothing is "
            f"executed; save it as {TOKENIZER_FILE}"
        )
    else:
        backend, roles = _converted(name, folder)
    if backend.get_vocab_size(with_added_tokens=True) <= len(roles):
        raise CheckpointError(f"checkpoint {name}: its tokenizer has no tokens beside the special ones")
    for role in ("cls_token", "sep_token"):
        if role not in roles:
            raise CheckpointError(f"checkpoint {name}: the tokenizer has no [CLS] and [SEP] (or <s> and </s>) tokens")
    if HEADS[head].fills_masks and "mask_token" not in roles:
        raise CheckpointError(f"checkpoint {name}: the tokenizer has no [MASK] token, so it cannot serve a masked LM")
    notes += _check_ids(config, backend, roles)
    notes += _frame(config, backend, roles)
    if lower:
        before = [backend.normalizer] if backend.normalizer else []
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *before])
    types = () if config.setting("type_vocab_size") == 1 else ("token_type_ids",)
    return CheckpointTokenizer(
        backend, roles, ("input_ids", *types, "attention_mask"), _longest(document), tuple(notes)
    )


def _longest(document: dict[str, Any]) -> int | None:
    """The length that texts are cut to by transformers; None where that is beyond any text."""
    stated = document.get("model_max_length")
    if not isinstance(stated, int | float) or not math.isfinite(stated) or not 0 < stated < 1 << 31:
        return None
    return int(stated)


def _settings(name: str, folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for file in (_MAP_FILE, SETTINGS_FILE):
        if (folder / file).is_file():
            document |= read_file(name, folder, file)
    return document


def _roles(name: str, document: dict[str, Any], backend: Tokenizer) -> dict[str, str]:
    """As the settings say; of roles that they do not speak of, the usual token that the vocabulary has."""
    roles = {}
    for role, usual in _ROLES.items():
        stated = document.get(role)
        # A token may be written with its properties.
        stated = stated.get("content") if isinstance(stated, dict) else stated
        if stated is not None and not isinstance(stated, str):
            raise CheckpointError(
                f"checkpoint {name}: {role} = {shown(stated)} in {SETTINGS_FILE}; it should be a token"
            )
        candidates = usual if role not in document else () if stated is None else (stated,)
        for token in candidates:
            if backend.token_to_id(token) is not None:
                roles[role] = token
                break
    return roles


def _converted(name: str, folder: Path) -> tuple[Tokenizer, dict[str, str]]:
    """The tokenizer that transformers makes of the vocabulary of a folder without a tokenizer's file."""
    if not any((folder / source).is_file() for source in _SOURCES):
        raise CheckpointError(f"checkpoint {name}: the folder holds no tokenizer ({TOKENIZER_FILE}, or {_SOURCES[0]})")
    import transformers

    try:
        read = transformers.AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except Exception as error:  # the library raises what its converters raise
        raise CheckpointError(f"checkpoint {name}: its tokenizer cannot be read: {said(error)}") from error
    backend = getattr(read, "backend_tokenizer", None)
    if backend is None:
        raise CheckpointError(f"checkpoint {name}: its tokenizer has no fast form ({TOKENIZER_FILE})")
    backend.no_padding()
    backend.no_truncation()
    roles = {role: token for role in _ROLES if (token := getattr(read, role, None)) is not None}
    return backend, {role: token for role, token in roles.items() if backend.token_to_id(token) is not None}


def _other_tokens(folder: Path, backend: Tokenizer) -> list[str]:
    """Where transformers would make other tokens than the file: a text as proof."""
    import transformers

    try:
        read = transformers.AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
        theirs = [read(text)["input_ids"] for text in _PROBES]
    except Exception:  # what it cannot read, nobody is misled by
        return []
    for text, ids in zip(_PROBES, theirs, strict=True):
        encoding = backend.encode(text)
        if encoding.ids != ids:
            own, other = (" ".join(map(str, tokens)) for tokens in (encoding.tokens, read.convert_ids_to_tokens(ids)))
            return [
                f"{TOKENIZER_FILE} makes {shortened(own)!r} of {text!r}, and {type(read).__name__}, which transformers "
                f"would use, {shortened(other)!r}; {TOKENIZER_FILE} decides"
            ]
    return []


def _check_ids(config: CheckpointConfig, backend: Tokenizer, roles: dict[str, str]) -> list[str]:
    """Raises CheckpointError for ids beyond the word table; tells where tokenizer and model disagree otherwise."""
    name, vocab_size, notes = config.name, config.values.vocab_size, []
    size = max(backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1
    if size > vocab_size:
        raise CheckpointError(
            f"checkpoint {name}: the tokenizer's ids go up to {size - 1}, the model has {vocab_size} embeddings; "
            f"the tokenizer belongs to another model"
        )
    if size < vocab_size:
        notes.append(
            f"the tokenizer has {size:,} tokens and the word table {vocab_size:,} rows; some tables are padded, but "
            f"where a line of the vocabulary is missing, every token behind it has the id of another"
        )
    for key, role in _IDS.items():
        stated, own = config.document.get(key), roles.get(role)
        if isinstance(stated, int) and own is not None and backend.token_to_id(own) != stated:
            notes.append(
                f"config.json says {key} = {stated}, and the tokenizer's {own} is {backend.token_to_id(own)}: one of "
                f"them is of another model"
            )
    return notes


def _frame(config: CheckpointConfig, backend: Tokenizer, roles: dict[str, str]) -> list[str]:
    """Makes a tokenizer that puts no special tokens around a text put them there, as its family was trained.

    Raises CheckpointError for one that puts others than [CLS] at the start.
    """
    first, last = (backend.token_to_id(roles[role]) for role in ("cls_token", "sep_token"))
    cls, sep = roles["cls_token"], roles["sep_token"]
    framed = backend.encode("")
    if framed.ids[:1] == [first]:
        return []
    if framed.ids:
        raise CheckpointError(
            f"checkpoint {config.name}: its tokenizer puts {shortened(' '.join(framed.tokens))!r} around a text, which "
            f"does not begin with {cls}"
        )
    second = f"{sep} $B {sep}" if config.family.positions_follow_padding else f"$B:1 {sep}:1"
    backend.post_processor = TemplateProcessing(
        single=f"{cls} $A {sep}", pair=f"{cls} $A {sep} {second}", special_tokens=[(cls, first), (sep, last)]
    )
    return [f"its tokenizer puts no special tokens around a text; {cls} and {sep} are added, as the family is trained"]
