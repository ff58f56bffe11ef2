"""How the same INT8 model is made without this project: transformers, torch's exporters, ONNX Runtime's quantizer."""

from __future__ import annotations

import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import transformers
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from ortnas.export.build import FLOAT_TOLERANCE
from ortnas.export.inference import load, run
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.layout import cut_layers, cut_top
from ortnas.nas.architecture.sentence_modules import NORMALIZE
from ortnas.nas.architecture.subnet import Subnet

Array = npt.NDArray[np.float32]
Feeds = Mapping[str, npt.NDArray[np.int64]]
INPUTS = ["input_ids", "attention_mask", "token_type_ids"]
OUTPUT = "sentence_embedding"

# Modules of transformers' BertLayer and the tensors of a layer that they hold.
_LINEARS = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "output",
    "intermediate.dense": "ffn_in",
    "output.dense": "ffn_out",
}
_NORMS = {"attention.output.LayerNorm": "attention_norm", "output.LayerNorm": "ffn_norm"}
_TABLES = {
    "word_embeddings": "embeddings.word",
    "position_embeddings": "embeddings.position",
    "token_type_embeddings": "embeddings.token_type",
}


class SentenceEncoder(nn.Module):
    """BERT, the mean of the tokens that are not padding, a projection, length one."""

    def __init__(self, bert: nn.Module, projection: nn.Linear) -> None:
        super().__init__()
        self.bert = bert
        self.projection = projection

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        output = self.bert(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        mask = attention_mask.unsqueeze(-1).to(output.last_hidden_state.dtype)
        mean = (output.last_hidden_state * mask).sum(1) / mask.sum(1)
        return nn.functional.normalize(self.projection(mean), dim=-1)


def rival_network(tensors: Mapping[str, Array], dimensions: Dimensions, subnet: Subnet) -> nn.Module:
    """The subnet as a transformers BertModel whose modules have the subnet's sizes and copies of its weights."""
    chain = dimensions.pooling, dimensions.modules
    if (dimensions.family, dimensions.head, chain) != ("bert", "embedding", (("mean",), (NORMALIZE,))):
        raise ValueError("the rival network is BERT with mean pooling; take such a checkpoint")
    config = transformers.BertConfig(
        vocab_size=dimensions.vocab_size,
        hidden_size=dimensions.hidden_size,
        num_hidden_layers=len(subnet.layers),
        num_attention_heads=dimensions.num_heads,
        intermediate_size=dimensions.ffn_size,
        hidden_act=dimensions.activation,
        max_position_embeddings=dimensions.max_positions,
        type_vocab_size=dimensions.token_types,
        layer_norm_eps=dimensions.layer_norm_epsilon,
        # Of the two, "sdpa" exports to more operators (it shapes and checks its mask) and runs slower.
        attn_implementation="eager",
    )
    bert = transformers.BertModel(config, add_pooling_layer=False)
    top = {name: weight.values for name, weight in cut_top(tensors, subnet, dimensions).items()}
    epsilon = dimensions.layer_norm_epsilon
    for module, name in _TABLES.items():
        bert.embeddings.set_submodule(module, _table(top[name]))
    bert.embeddings.LayerNorm = _norm(top["embeddings.norm.weight"], top["embeddings.norm.bias"], epsilon)
    layers = cut_layers(tensors, subnet, dimensions)
    for module, (layer, cuts) in zip(bert.encoder.layer, layers, strict=True):
        weights = {name: weight.values for name, weight in cuts.items()}
        for path, name in _LINEARS.items():
            module.set_submodule(path, _linear(weights[f"{name}.weight"], weights[f"{name}.bias"]))
        for path, name in _NORMS.items():
            module.set_submodule(path, _norm(weights[f"{name}.weight"], weights[f"{name}.bias"], epsilon))
        attention = module.attention.self
        attention.num_attention_heads, attention.attention_head_size = layer.num_heads, layer.head_size
        attention.all_head_size = layer.num_heads * layer.head_size
        attention.scaling = layer.head_size**-0.5
    return SentenceEncoder(bert, _linear(top["head.projection.weight"])).eval()


def _copy(values: Array) -> Tensor:
    return torch.from_numpy(np.array(values))


def _table(values: Array) -> nn.Embedding:
    module = nn.Embedding(*values.shape)
    module.weight = nn.Parameter(_copy(values))
    return module


def _linear(weight: Array, bias: Array | None = None) -> nn.Linear:
    """``weight`` with one or two axes for its rows or columns, as canonical tensors have them."""
    rows = len(weight) if bias is None else bias.size
    matrix = _copy(weight).reshape(rows, -1)
    module = nn.Linear(matrix.shape[1], rows, bias=bias is not None)
    module.weight = nn.Parameter(matrix)
    if bias is not None:
        module.bias = nn.Parameter(_copy(bias).flatten())
    return module


def _norm(weight: Array, bias: Array, epsilon: float) -> nn.LayerNorm:
    module = nn.LayerNorm(len(weight), epsilon)
    module.weight, module.bias = nn.Parameter(_copy(weight)), nn.Parameter(_copy(bias))
    return module


def check_same_network(network: nn.Module, model: bytes, feeds: Feeds, inputs: Sequence[str] = INPUTS) -> None:
    """Raises ValueError where the rival network and our float ONNX model differ by more than 1e-4."""
    with torch.no_grad():
        theirs = network(*(torch.from_numpy(feeds[name]) for name in inputs)).numpy()
    difference = float(np.abs(run(load(model), feeds) - theirs).max())
    if not difference <= FLOAT_TOLERANCE:
        raise ValueError(f"the rival network and our float model differ by {difference:.2g}; no comparison is fair")


def _sample() -> tuple[Tensor, ...]:
    """Inputs to trace with: no axis of length one, which torch.export would take as fixed, and some padding."""
    ids = torch.randint(1000, 2000, (2, 16))
    mask = torch.ones_like(ids)
    mask[1, 10:] = 0
    return ids, mask, torch.zeros_like(ids)


def export_dynamo(network: nn.Module, path: Path, inputs: Sequence[str] = INPUTS) -> None:
    """torch.export's graph as ONNX, batch and sequence dynamic, the exporter's own opset and optimizations."""
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    with _quiet():
        program = torch.onnx.export(
            network,
            _sample()[: len(inputs)],
            dynamo=True,
            dynamic_shapes=dict.fromkeys(inputs, axes),
            input_names=list(inputs),
            output_names=[OUTPUT],
            verbose=False,
        )
        assert program is not None
        program.save(path)


def export_torchscript(network: nn.Module, path: Path) -> None:
    """The traced graph as ONNX, batch and sequence dynamic."""
    with _quiet():
        torch.onnx.export(
            network,
            _sample(),
            path,
            dynamo=False,
            dynamic_axes={name: {0: "batch", 1: "sequence"} for name in INPUTS} | {OUTPUT: {0: "batch"}},
            input_names=INPUTS,
            output_names=[OUTPUT],
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without progress lines, tracer warnings and what the quantizer logs of its work."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


class _Reader(CalibrationDataReader):
    def __init__(self, batches: Sequence[Feeds]) -> None:
        self.batches = iter(batches)

    def get_next(self) -> Feeds | None:
        return next(self.batches, None)


def quantize_rival(
    path: Path, batches: Sequence[Feeds], defaults: bool = False, operators: Sequence[str] | None = None
) -> bytes:
    """The INT8 form of an exported model by ``quant_pre_process`` and ``quantize_static``.

    U8S8 QDQ with one weight scale a channel, ONNX Runtime's advice for processors with VNNI, or its own ``defaults``
    (S8S8 QDQ, one scale a tensor). ``operators`` alone are quantized; None: all that the tool knows.
    """
    settings = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True}
    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        # Symbolic shape inference gives up on both exporters' graphs; onnx's own shape inference remains, and every
        # weight product is quantized.
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared, quantized, _Reader(batches), op_types_to_quantize=operators, **({} if defaults else settings)
        )
        return quantized.read_bytes()
