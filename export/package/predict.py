"""Runs this package: ``python predict.py "a text" ["another" ...]``, for answers ``"a question" "its context" ...``,
to rank passages ``"a query" "a passage" ["another" ...]``; late interaction prints the
tokens' vectors of one text, or of several behind ``--prompt NAME``.

``--prompt NAME`` before the texts puts one of the package's prompts before each of them. ``--runtime onnxruntime`` or
``--runtime openvino`` ahead of all runs it with another runtime than it was timed with.

Needs tokenizers, numpy, and onnxruntime or openvino only.
"""

import json
import math
import os
import sys
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

# From 1.29 on, ONNX Runtime reports on models and their speed over the network unless told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
from tokenizers import Tokenizer

FOLDER = Path(__file__).resolve().parent
COLUMNS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
RUNTIMES = ("onnxruntime", "openvino")
LONGEST_ANSWER, STARTS_CONSIDERED = 30, 20


def granted_processors(root="/"):
    """Processors that this process may use, or less where its control groups grant less (Linux, versions 1 and 2).

    ONNX Runtime alone would start a thread for each core of the machine, and those above the quota would be stopped.
    """
    granted = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    try:
        lines = Path(root, "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers and "cpu" not in controllers.split(","):
            continue
        inside = Path("" if ".." in path.split("/") else path.strip("/"))
        # Version 2 has one tree, version 1 one for each controller.
        for mount in ("cpu", "cpu,cpuacct") if controllers else ("", "unified"):
            granted += [quota(Path(root, "sys/fs/cgroup", mount, group)) for group in (inside, *inside.parents)]
    return max(1, math.ceil(min(granted)))


def quota(group):
    """Processors whose time a control group grants; infinite where it sets no limit."""
    try:
        if (group / "cpu.max").is_file():
            quota_us, period_us = (group / "cpu.max").read_text().split()
        else:
            quota_us, period_us = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
    except (OSError, ValueError):
        return math.inf
    # No limit is "max" in version 2, -1 in version 1.
    return int(quota_us) / int(period_us) if quota_us.isdigit() else math.inf


def onnxruntime_session(path, threads, fastmath_bfloat16):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if fastmath_bfloat16:
        # Processors without such products compute in float32 all the same.
        options.add_session_config_entry("mlas.enable_gemm_fastmath_arm64_bfloat16", "1")
    return onnxruntime.InferenceSession(str(path), options)


class OpenvinoPort(NamedTuple):
    name: str


class OpenvinoSession:
    """OpenVINO's compiled model with the methods of ONNX Runtime's session."""

    def __init__(self, path, threads, properties) -> None:
        import openvino

        self.model = openvino.Core().compile_model(path, "CPU", {**properties, "INFERENCE_NUM_THREADS": str(threads)})

    def get_inputs(self):
        return [OpenvinoPort(port.any_name) for port in self.model.inputs]

    def get_outputs(self):
        return [OpenvinoPort(port.any_name) for port in self.model.outputs]

    def run(self, names, feeds):
        outputs = self.model.create_infer_request().infer(feeds)
        return [outputs[name] for name in names]


class RequestError(ValueError):
    """A text that the model cannot be asked about."""


class Model:
    """The packaged model. ``threads`` 0 takes one for each processor that is granted; ``runtime``: ``onnxruntime`` or
    ``openvino``, by default the one that it was timed with."""

    def __init__(self, folder: Path = FOLDER, threads: int = 0, runtime=None) -> None:
        self.record = json.loads((folder / "ortnas.json").read_text(encoding="utf-8"))
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        self.mask = self.special_token(settings.get("mask_token"), "[MASK]", "<mask>")
        padding = self.special_token(settings.get("pad_token"), "[PAD]", "<pad>")
        self.padding_id = 0 if padding is None else self.tokenizer.token_to_id(padding)
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.record["max_length"])
        setup, threads = self.record["target"]["setup"], threads or granted_processors()
        request = self.record["target"]["workloads"][0]
        self.shapes = (request["batch"], request["sequence"]) if request.get("fixed") else None
        self.has_mask = request.get("mask", True)
        timed_with = setup.get("runtime", "onnxruntime")
        if (runtime or timed_with) == "openvino":
            properties = setup["provider_options"] if timed_with == "openvino" else {"PERFORMANCE_HINT": "LATENCY"}
            self.session = OpenvinoSession(folder / "model.onnx", threads, properties)
        else:
            fastmath_bfloat16 = setup.get("fastmath_bfloat16", False)
            self.session = onnxruntime_session(folder / "model.onnx", threads, fastmath_bfloat16)

    def special_token(self, *candidates):
        """The first candidate that the tokenizer knows; settings may hold it with its properties."""
        names = [item["content"] if isinstance(item, dict) else item for item in candidates]
        return next((name for name in names if name and self.tokenizer.token_to_id(name) is not None), None)

    def __call__(self, texts, prompt=None):
        """Raw outputs, float32, for texts or (text, pair) tuples; ``prompt`` is as in ``prompted``.

        Embeddings [n, size], logits [n, labels], numbers [n, 1], logits [n, sequence, labels or vocabulary], or
        start and end logits [n, sequence, 2].
        """
        return self.run(self.tokenizer.encode_batch([self.prompted(text, prompt) for text in texts]))

    def prompted(self, text, prompt=None):
        """A text behind the prompt of that name; by default the package's default prompt, where it has one.

        Raises KeyError for a prompt that the package does not have.
        """
        name = self.record.get("default_prompt") if prompt is None else prompt
        return text if name is None else self.record.get("prompts", {})[name] + text

    def run(self, encodings):
        return self.answers(
            [{name: getattr(encoding, column) for name, column in COLUMNS.items()} for encoding in encodings]
        )

    def answers(self, rows):
        """Outputs of rows of inputs by name, in as many requests as the model needs for them.

        Raises RequestError for a row that does not fit a model of a fixed length.
        """
        asked = [item.name for item in self.session.get_inputs()]
        # Embeddings come a second time, as other loaders ask for them.
        names = [item.name for item in self.session.get_outputs() if item.name != "last_hidden_state"]
        lengths = [len(row["input_ids"]) for row in rows]
        answers = [None] * len(rows)
        for places, length in self.requests(lengths):
            feeds = {name: np.zeros((len(places), length), np.int64) for name in asked}
            feeds["input_ids"] += self.padding_id
            for name, values in feeds.items():
                for position, place in enumerate(places):
                    values[position, : lengths[place]] = rows[place][name]
            outputs = self.session.run(names, feeds)
            output = outputs[0] if len(outputs) == 1 else np.stack(outputs, axis=-1)
            for place, answer in zip(places, output, strict=True):
                answers[place] = answer
        longest = max(lengths)
        if output.ndim == 3:
            # Of every token: what lies behind the end of a text means nothing.
            answers = [np.pad(answer[:longest], ((0, max(0, longest - len(answer))), (0, 0))) for answer in answers]
        return np.stack(answers)

    def requests(self, lengths):
        """The places of rows that go into one request, and the length that it has.

        A model of a fixed shape is asked for so many rows of that length, of which those that are lacking are the last
        once more; one without a mask for rows of the same length.
        """
        places = list(range(len(lengths)))
        if self.shapes is None and self.has_mask:
            return [(places, max(lengths))]
        if self.shapes is None:
            return [([place for place in places if lengths[place] == own], own) for own in sorted(set(lengths))]
        batch, length = self.shapes
        for own in lengths:
            if own > length or (own < length and not self.has_mask):
                most = "at most" if self.has_mask else "exactly"
                raise RequestError(f"this package takes texts of {most} {length} tokens, and one has {own}")
        filled = places + places[-1:] * (-len(places) % batch)
        return [(filled[start : start + batch], length) for start in range(0, len(filled), batch)]

    def describe(self, text, prompt=None):
        """The output for one text, or one tuple of two, as plain values; ``prompt`` is as in ``prompted``.

        An embedding, the probability of each label (with the labels that the text has, where it may have several), a
        number, the passages of (query, passage, ...) with their scores, [word, label] of every word, the answer's text,
        or the five likeliest tokens for every mask.
        """
        return DESCRIPTIONS[self.record["head"]](self, self.prompted(text, prompt))

    def output(self, text):
        """The encoding of one text, or a tuple of two, and its output without the axis of texts."""
        encoding = self.tokenizer.encode(*text) if isinstance(text, tuple) else self.tokenizer.encode(text)
        return encoding, self.run([encoding])[0]

    def embedding(self, text):
        return [round(float(value), 6) for value in self.output(text)[1]]

    def token_weights(self, text):
        """The weights that are not 0, by token, the largest first."""
        weights = self.output(text)[1]
        order = np.argsort(-weights, kind="stable")[: int((weights > 0).sum())]
        return {self.tokenizer.id_to_token(int(token)): round(float(weights[token]), 4) for token in order}

    def vectors(self, text, is_query=False):
        """Of the tokens that count, [n, size], with their names.

        Of a document, or any other text, all that are not on the skip list. Of a query, which the query's prompt shows
        as well, all; mask tokens fill it up where the package says so.
        """
        settings = self.record["provenance"].get("late_interaction", {})
        prefix = self.record.get("prompts", {}).get("query")
        if is_query or (prefix and text.startswith(prefix)):
            longest = self.record["max_length"]
            length = min(settings.get("query_length", longest), longest)
            self.tokenizer.enable_truncation(length)
            ids = self.tokenizer.encode(text).ids
            self.tokenizer.enable_truncation(longest)
            filling = length - len(ids) if settings.get("do_query_expansion") else 0
            attention = [1] * len(ids) + [int(settings.get("attend_to_expansion_tokens", False))] * filling
            ids = ids + [self.tokenizer.token_to_id(self.mask)] * filling if filling else ids
            counted = list(range(len(ids)))
        else:
            encoding = self.tokenizer.encode(text)
            ids, attention = encoding.ids, encoding.attention_mask
            skipped = {self.tokenizer.token_to_id(word) for word in settings.get("skiplist_words", ())}
            counted = [place for place, token in enumerate(ids) if attention[place] and token not in skipped]
        row = {"input_ids": ids, "attention_mask": attention, "token_type_ids": [0] * len(ids)}
        vectors = self.answers([row])[0]
        return [self.tokenizer.id_to_token(ids[place]) for place in counted], vectors[counted]

    def token_vectors(self, text):
        """[token, vector] of every token that counts."""
        names, vectors = self.vectors(text)
        return [[name, vector.round(6).tolist()] for name, vector in zip(names, vectors, strict=True)]

    def maxsim(self, query, *passages):
        """[passage, MaxSim] of every passage, the most relevant first."""
        prompts = self.record.get("prompts", {})
        vectors = self.vectors(prompts.get("query", "") + query, is_query=True)[1]
        documents = [self.vectors(prompts.get("document", "") + passage)[1] for passage in passages]
        # A passage may have nothing but words of the skip list.
        scores = [float((vectors @ document.T).max(1, initial=-1).sum()) for document in documents]
        order = np.argsort(-np.array(scores), kind="stable")
        return [[passages[place], round(scores[place], 4)] for place in order]

    def probabilities(self, text):
        logits = self.output(text)[1]
        exponentials = np.exp(logits - logits.max())
        return dict(zip(self.record["labels"], (exponentials / exponentials.sum()).round(4).tolist(), strict=True))

    def label_set(self, text):
        """The labels whose probabilities reach their thresholds, and all probabilities."""
        logits = self.output(text)[1].astype(np.float64)
        probabilities = np.exp(-np.logaddexp(0, -logits))
        names, thresholds = self.record["labels"], self.record.get("label_thresholds")
        given = probabilities >= np.array(thresholds or [0.5] * len(names))
        return {
            "labels": [name for name, is_given in zip(names, given, strict=True) if is_given],
            "probabilities": dict(zip(names, probabilities.round(4).tolist(), strict=True)),
        }

    def number(self, text):
        logit = self.output(text)[1][0]
        # A cross-encoder's score, as its own library gives it.
        is_logit = self.record.get("activation") == "sigmoid"
        return round(float(1 / (1 + np.exp(-logit)) if is_logit else logit), 6)

    def ranking(self, query, *passages):
        """[passage, score] of every passage, the most relevant first."""
        scores = self([(query, passage) for passage in passages])[:, 0].astype(np.float64)
        if self.record.get("activation") == "sigmoid":
            scores = np.exp(-np.logaddexp(0, -scores))
        order = np.argsort(-scores, kind="stable")
        return [[passages[place], round(float(scores[place]), 6)] for place in order]

    def tagged_words(self, text):
        encoding, output = self.output(text)
        return list(self.words(text, encoding, output.argmax(1)))

    def fillings(self, text):
        encoding, output = self.output(text.replace("[MASK]", self.mask))
        masks = np.flatnonzero(np.array(encoding.ids) == self.tokenizer.token_to_id(self.mask))
        likeliest = output[masks].argsort(axis=1)[:, :-6:-1]
        return [
            [self.tokenizer.decode([token], skip_special_tokens=False).strip() for token in row] for row in likeliest
        ]

    def words(self, text, encoding, labels):
        """Words with the label of their first token."""
        for word, tokens in groupby(range(len(labels)), key=lambda token: encoding.word_ids[token]):
            tokens = list(tokens)
            if word is not None:
                start, end = encoding.offsets[tokens[0]][0], encoding.offsets[tokens[-1]][1]
                yield [text[start:end].strip(), self.record["labels"][labels[tokens[0]]]]

    def answer(self, question, context):
        """The likeliest piece of the context, which is read in overlapping windows where it is long.

        Empty where the context has no answer, as far as the model was taught that there may be none.
        """
        threshold = self.record.get("null_threshold")
        best, null, answer = -np.inf, np.inf, ""
        for window in self.windows(question, context):
            output = self.run([window])[0]
            null = min(null, float(output[0, 0] + output[0, 1]))
            inside = np.flatnonzero([part == 1 for part in window.sequence_ids])
            for start in inside[np.argsort(-output[inside, 0], kind="stable")][:STARTS_CONSIDERED]:
                ends = inside[(inside >= start) & (inside < start + LONGEST_ANSWER)]
                end = ends[output[ends, 1].argmax()]
                score = float(output[start, 0] + output[end, 1])
                if score > best:
                    best, answer = score, context[window.offsets[start][0] : window.offsets[end][1]].strip()
        return "" if threshold is not None and null - best > threshold else answer

    def windows(self, question, context):
        """Encodings of the question, cut to half the length, with pieces of the context that share a third of it."""
        longest = self.record["max_length"]
        longest_question = longest // 2
        self.tokenizer.enable_truncation(longest_question)
        encoding = self.tokenizer.encode(question, add_special_tokens=False)
        if encoding.overflowing:
            question = question[: encoding.offsets[-1][1]]
        room = longest - longest_question - self.tokenizer.num_special_tokens_to_add(True)
        self.tokenizer.enable_truncation(longest, stride=min(longest // 3, room - 1), strategy="only_second")
        first = self.tokenizer.encode_batch([(question, context)])[0]
        return [first, *first.overflowing]


# How the output of a head is read.
DESCRIPTIONS = {
    "embedding": Model.embedding,
    "sparse": Model.token_weights,
    "late-interaction": Model.token_vectors,
    "classification": Model.probabilities,
    "multi-label": Model.label_set,
    "regression": Model.number,
    "reranking": lambda model, texts: model.ranking(*texts),
    "token-classification": Model.tagged_words,
    "span": lambda model, pair: model.answer(*pair),
    "masked-lm": Model.fillings,
}


if __name__ == "__main__":
    prompt, runtime, texts = None, None, sys.argv[1:]
    if texts[:1] == ["--runtime"]:
        runtime, texts = "".join(texts[1:2]), texts[2:]
        if runtime not in RUNTIMES:
            sys.exit(f"no runtime is called {runtime!r}; there is {' and '.join(RUNTIMES)}")
    try:
        model = Model(runtime=runtime)
    except ModuleNotFoundError as error:
        if error.name not in RUNTIMES:
            raise
        (other,) = set(RUNTIMES) - {error.name}
        sys.exit(
            f"{error.name} is not installed; install it with `{sys.executable} -m pip install {error.name}`, or run "
            f"predict.py with --runtime {other}"
        )
    if texts[:1] == ["--prompt"]:
        prompt, texts = "".join(texts[1:2]), texts[2:]
        if prompt not in model.record.get("prompts", {}):
            names = ", ".join(model.record.get("prompts", {})) or "none"
            sys.exit(f"the package has no prompt {prompt!r}; it has {names}")
    is_pair, is_query = model.record["head"] == "span", model.record["head"] == "reranking"
    if not texts or (is_pair and len(texts) % 2) or (is_query and len(texts) < 2):
        usage = (
            "question context" if is_pair else "query passage" if is_query else "[--runtime NAME] [--prompt NAME] text"
        )
        sys.exit(f"usage: python predict.py {usage} [...]")
    is_late = model.record["head"] == "late-interaction" and len(texts) > 1 and prompt is None
    try:
        if is_query or is_late:
            for passage, score in model.maxsim(*texts) if is_late else model.describe(tuple(texts)):
                print(json.dumps({"text": passage, "output": score}, ensure_ascii=False))
            sys.exit()
        for text in zip(texts[::2], texts[1::2], strict=True) if is_pair else texts:
            print(json.dumps({"text": text, "output": model.describe(text, prompt)}, ensure_ascii=False))
    except RequestError as error:
        sys.exit(str(error))
