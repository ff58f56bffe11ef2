"""The heads, one row each: their tensors, outputs, products, labels, metrics, losses and what is said of them.

Whatever depends on the head asks its row; functions are looked up by ``labels`` or by name. A new head is a row here,
and functions where its labels are of a new kind: tests/nas/architecture/test_heads.py names those that are missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from ortnas.nas.architecture.head_passes import (
    HeadPass,
    Top,
    sentence_embedding,
    text_logits,
    token_columns,
    token_labels,
    token_vectors,
    vocabulary_logits,
    vocabulary_weights,
)
from ortnas.nas.architecture.ops import Axes, Ops
from ortnas.nas.architecture.sentence_modules import module_tensors

# Numpy, which sizes need, has no part in telling the heads' names.
if TYPE_CHECKING:
    from ortnas.nas.architecture.dimensions import Dimensions

T = TypeVar("T")
W = TypeVar("W")
# What a head is taught beside its teacher's outputs: nothing; of a text a class, any number of classes, or a number; a
# tag a word; the first and the last token of an answer; the tokens behind masks; how relevant each passage of a query
# is.
Labels = Literal["none", "class", "classes", "number", "tags", "answer", "masked", "grades"]
LABEL_KINDS: tuple[Labels, ...] = get_args(Labels)


@dataclass(frozen=True)
class Output:
    """A float32 output of the exported models. The axes ``batch`` and ``sequence`` are as long as the input's."""

    name: str
    axes: Axes
    meaning: str


@dataclass(frozen=True)
class Head:
    """What distinguishes a head.

    ``forward`` computes it. ``tensors`` has the axes of its weights by canonical name. ``class_suffix`` ends the name
    of its class in transformers. Of ``metrics``, by name, the first that suits the labels decides where nothing else is
    asked for, and all are reported; where ``compares_all_metrics`` is False, tables show the deciding one alone.
    ``ranking`` is what a search ranks candidates by, where it tells them apart better than the metric that is reported.
    ``learning_rate`` is the usual one of a subnet that is trained alone. ``judged_metrics`` are of judged pairs of
    texts, where there are some, and are reported beside the others.
    ``losses`` is the usual sum of training, name to weight. ``products`` are its weight products that run in integers,
    ``float_products`` those that never do, or patterns of their names. ``label_rows`` is the number of its classifier's
    rows where it is not that of the labels. ``pipeline`` is the hub's name of the task; model cards say that the
    network ``purpose``, and ``reading`` how its outputs are read. ``problem_type`` is what transformers calls the
    classifier's kind. ``spelled_as`` is the head by whose names families store its tensors, where that is another.
    """

    labels: Labels
    forward: HeadPass
    tensors: Mapping[str, Axes]
    outputs: tuple[Output, ...]
    class_suffix: str
    metrics: tuple[str, ...]
    losses: Mapping[str, float]
    pipeline: str
    purpose: str
    reading: str
    products: tuple[str, ...] = ()
    float_products: tuple[str, ...] = ()
    label_rows: int = 0
    compares_all_metrics: bool = True
    judged_metrics: tuple[str, ...] = ()
    ranking: str = ""
    learning_rate: float = 3e-4
    problem_type: str = ""
    spelled_as: str = ""

    def apply(self, ops: Ops[T, W], x: T, top: Top[W], dimensions: Dimensions) -> T:
        """The outputs of the last hidden state [tokens, hidden]; ``top`` has the weights of embeddings and head.

        Embeddings [batch, embedding_size]; logits [batch, labels] (regression: 1), [batch, sequence, labels],
        [batch, sequence, 2] (span: start, end) or [batch, sequence, vocab]; for a graph, the name of a tensor.
        """
        return self.forward(ops, x, top, dimensions, self.output_names)

    def tensors_of(self, dimensions: Dimensions) -> dict[str, Axes]:
        """``tensors``, those of the modules that make embeddings of pooled tokens, and a decoder that is not tied."""
        modules = module_tensors(dimensions.modules) if self.makes_embeddings else {}
        decoder: dict[str, Axes] = {"head.decoder.weight": ("vocab", "table")}
        return {**self.tensors, **modules, **(decoder if self.has_decoder and dimensions.has_own_decoder else {})}

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(output.name for output in self.outputs)

    @property
    def has_labels(self) -> bool:
        """Whether anything but the teacher's outputs can teach and score it."""
        return self.labels != "none"

    @property
    def has_label_names(self) -> bool:
        return self.labels in ("class", "classes", "tags")

    @property
    def takes_label_sets(self) -> bool:
        """Whether a text may have no label, one or several."""
        return self.labels == "classes"

    @property
    def marks_pieces(self) -> bool:
        """Whether labels are of pieces of a text: words, or the characters of an answer."""
        return self.labels in ("tags", "answer")

    @property
    def reads_pairs(self) -> bool:
        """Whether every input is a pair of texts: question and context, or query and passage."""
        return self.labels in ("answer", "grades")

    @property
    def ranks(self) -> bool:
        """Whether outputs are compared within groups: those of the passages of one query."""
        return self.labels == "grades"

    @property
    def gives_number(self) -> bool:
        return self.labels in ("number", "grades")

    @property
    def fills_masks(self) -> bool:
        """Whether it is taught the tokens behind masks, for which any text will do."""
        return self.labels == "masked"

    @property
    def is_token_level(self) -> bool:
        """Whether there is an output for every token, and not one for the text."""
        return "sequence" in self.outputs[0].axes

    @property
    def has_classifier(self) -> bool:
        return any("label" in axes for axes in self.tensors.values())

    @property
    def has_decoder(self) -> bool:
        """Whether its last weight has a row for every token, as the word table, which it mostly is."""
        return any("vocab" in axes for axes in self.tensors.values())

    @property
    def weighs_vocabulary(self) -> bool:
        """Whether its output is a vector of the text over the vocabulary, as sparse encoders give it."""
        return self.outputs[0].axes == ("batch", "vocab")

    @property
    def makes_embeddings(self) -> bool:
        """Whether its output is a vector of the text, as models of sentence-transformers give it."""
        return self.makes_vectors and not self.is_token_level

    @property
    def makes_vectors(self) -> bool:
        """Whether its output is a vector of the text, or of each of its tokens."""
        return "embedding" in self.outputs[0].axes

    @property
    def makes_token_vectors(self) -> bool:
        """Whether texts are compared token by token, as late interaction does."""
        return self.makes_vectors and self.is_token_level

    @property
    def learns_pairs(self) -> bool:
        """Whether pairs of texts that belong together, or that people scored, can teach it."""
        return self.makes_embeddings

    @property
    def is_bare_encoder(self) -> bool:
        """Whether its class in transformers is the encoder alone, whose tensors have no prefix."""
        return self.class_suffix == "Model"

    @property
    def auto_class(self) -> str:
        """The class of transformers that opens a checkpoint of any family with this head."""
        return "AutoModel" if self.is_bare_encoder else f"AutoModel{self.class_suffix}"


_POOLED_CLASSIFIER: dict[str, Axes] = {
    "head.pooler.weight": ("pooled", "hidden"),
    "head.pooler.bias": ("pooled",),
    "head.classifier.weight": ("label", "pooled"),
    "head.classifier.bias": ("label",),
}
_TOKEN_CLASSIFIER: dict[str, Axes] = {
    "head.classifier.weight": ("label", "hidden"),
    "head.classifier.bias": ("label",),
}
# The word table is the decoder.
_MASKED_LM: dict[str, Axes] = {
    "head.transform.weight": ("table", "hidden"),
    "head.transform.bias": ("table",),
    "head.transform_norm.weight": ("table",),
    "head.transform_norm.bias": ("table",),
    "head.decoder.bias": ("vocab",),
}
_LABELS_AND_TEACHER = {"labels": 0.5, "soft_labels": 0.5, "hidden": 1.0}

# Outputs are named as in the ONNX models of sentence-transformers and of transformers' exporter.
HEADS: dict[str, Head] = {
    "embedding": Head(
        labels="none",
        forward=sentence_embedding,
        # Modules behind it have tensors of their own: see tensors_of.
        tensors={"head.projection.weight": ("channel", "hidden")},
        outputs=(Output("sentence_embedding", ("batch", "embedding"), "one for each text"),),
        class_suffix="Model",
        metrics=("similarity_spearman", "mean_cosine"),
        losses={"embedding": 1.0, "similarity": 1.0, "tokens": 1.0, "pairs": 0.2},
        pipeline="sentence-similarity",
        purpose="makes an embedding of a text",
        reading="texts are as similar as the cosine of their embeddings says",
        # One row a text is not worth integers.
        float_products=("head/projection", "head/modules/*"),
        judged_metrics=("spearman", "recall_at_1", "mrr_at_10", "ndcg_at_10"),
        ranking="neighbour_likelihood",
        learning_rate=1e-3,
    ),
    "classification": Head(
        labels="class",
        forward=text_logits,
        tensors=_POOLED_CLASSIFIER,
        outputs=(Output("logits", ("batch", "label"), "one for each label"),),
        class_suffix="ForSequenceClassification",
        metrics=("accuracy", "f1", "matthews", "log_likelihood"),
        losses=_LABELS_AND_TEACHER,
        pipeline="text-classification",
        purpose="classifies a text, or a pair of texts",
        reading="softmax gives probabilities, the largest is the answer",
        products=("head/pooler", "head/classifier"),
        # F1 and Matthews correlation mean little where they are not the task's metric.
        compares_all_metrics=False,
        ranking="log_likelihood",
        problem_type="single_label_classification",
    ),
    "multi-label": Head(
        labels="classes",
        forward=text_logits,
        tensors=_POOLED_CLASSIFIER,
        outputs=(Output("logits", ("batch", "label"), "one for each label"),),
        class_suffix="ForSequenceClassification",
        metrics=("micro_f1", "macro_f1", "label_log_likelihood"),
        losses=_LABELS_AND_TEACHER,
        pipeline="text-classification",
        purpose="says which of several labels a text, or a pair of texts, has",
        reading="1 / (1 + exp(-logit)) is a label's probability; the text has those that reach their thresholds",
        products=("head/pooler", "head/classifier"),
        ranking="label_log_likelihood",
        problem_type="multi_label_classification",
        spelled_as="classification",
    ),
    "regression": Head(
        labels="number",
        forward=text_logits,
        tensors=_POOLED_CLASSIFIER,
        outputs=(Output("logits", ("batch", "label"), "the number"),),
        class_suffix="ForSequenceClassification",
        metrics=("pearson_spearman", "pearson", "spearman"),
        losses=_LABELS_AND_TEACHER,
        pipeline="text-classification",
        purpose="gives a text, or a pair of texts, a number",
        reading="nothing is left to do",
        products=("head/pooler", "head/classifier"),
        label_rows=1,
        problem_type="regression",
        spelled_as="classification",
    ),
    "reranking": Head(
        labels="grades",
        forward=text_logits,
        tensors=_POOLED_CLASSIFIER,
        outputs=(Output("logits", ("batch", "label"), "how relevant the passage is to the query"),),
        class_suffix="ForSequenceClassification",
        metrics=("ndcg_at_10", "mrr_at_10", "list_log_likelihood"),
        losses=_LABELS_AND_TEACHER,
        pipeline="text-ranking",
        purpose="scores how relevant a passage is to a query",
        reading="the larger, the more relevant: sort a query's passages by it",
        products=("head/pooler", "head/classifier"),
        label_rows=1,
        ranking="list_log_likelihood",
        problem_type="regression",
        spelled_as="classification",
    ),
    "token-classification": Head(
        labels="tags",
        forward=token_labels,
        tensors=_TOKEN_CLASSIFIER,
        outputs=(Output("logits", ("batch", "sequence", "label"), "one for each token and label"),),
        class_suffix="ForTokenClassification",
        metrics=("entity_f1", "token_accuracy"),
        losses=_LABELS_AND_TEACHER,
        pipeline="token-classification",
        purpose="labels the words of a text",
        reading="the largest; a word has the label of its first token",
        products=("head/classifier",),
    ),
    "span": Head(
        labels="answer",
        forward=token_columns,
        tensors=_TOKEN_CLASSIFIER,
        outputs=(
            Output("start_logits", ("batch", "sequence"), "of the answer's first token"),
            Output("end_logits", ("batch", "sequence"), "of the answer's last token"),
        ),
        class_suffix="ForQuestionAnswering",
        metrics=("span_f1", "exact_match"),
        losses=_LABELS_AND_TEACHER,
        pipeline="question-answering",
        purpose="finds the answer to a question in a context",
        reading="the pair start <= end within the context with the largest sum; its characters are the answer",
        products=("head/classifier",),
        label_rows=2,
    ),
    "sparse": Head(
        labels="none",
        forward=vocabulary_weights,
        tensors=_MASKED_LM,
        outputs=(Output("sparse_embedding", ("batch", "vocab"), "a weight for each token, 0 or more"),),
        class_suffix="ForMaskedLM",
        metrics=("similarity_spearman", "mean_cosine"),
        losses={"embedding": 1.0, "similarity": 1.0, "tokens": 1.0},
        pipeline="feature-extraction",
        purpose="weighs the tokens of the vocabulary for a text, so that texts are found by inverted indexes",
        reading="the inner product of two texts' weights is their similarity; most weights are 0",
        products=("head/transform", "head/decoder"),
        ranking="neighbour_likelihood",
        spelled_as="masked-lm",
    ),
    "late-interaction": Head(
        labels="none",
        forward=token_vectors,
        tensors={"head.dense.weight": ("embedding", "hidden"), "head.dense.bias": ("embedding",)},
        outputs=(Output("token_embeddings", ("batch", "sequence", "embedding"), "one of length one for each token"),),
        class_suffix="Model",
        metrics=("maxsim_spearman", "token_cosine"),
        losses={"embedding": 1.0, "similarity": 1.0, "tokens": 1.0},
        pipeline="sentence-similarity",
        purpose="makes a vector of every token, by which queries and documents are compared",
        reading="sum over the query's tokens of the largest inner product with a token of the document (MaxSim)",
        products=("head/dense",),
        judged_metrics=("recall_at_1", "mrr_at_10", "ndcg_at_10"),
        learning_rate=1e-3,
    ),
    "masked-lm": Head(
        labels="masked",
        forward=vocabulary_logits,
        tensors=_MASKED_LM,
        outputs=(Output("logits", ("batch", "sequence", "vocab"), "over the vocabulary"),),
        class_suffix="ForMaskedLM",
        metrics=("masked_accuracy", "masked_log_likelihood"),
        ranking="masked_log_likelihood",
        losses={"labels": 1.0, "hidden": 1.0},
        pipeline="fill-mask",
        purpose="fills in masked tokens of a text",
        reading="the largest at the masked token's position",
        products=("head/transform", "head/decoder"),
    ),
}
*_FIRST, _LAST = HEADS
HEAD_CHOICES = f"{', '.join(_FIRST)} or {_LAST}"
