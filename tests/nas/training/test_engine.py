from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from ortnas.nas.failures import TrainingError
from ortnas.nas.training import engine
from ortnas.nas.training.batches import Batch
from ortnas.nas.training.engine import StateFiles, optimise
from ortnas.nas.training.loss_names import choose_losses
from ortnas.nas.training.objective import Objective
from ortnas.nas.training.step_subnets import Sampler, multiply_adds
from ortnas.nas.training.steps import fine_tune, train_supernet
from ortnas.nas.training.supernet import Supernet
from tests.nas.training.courses import KilledError, make_batches, make_course, make_network
from tests.networks import make_space


def train(
    folder: Path, stop: int | None = None, steps: int = 12, dtype: torch.dtype = torch.float32, **changes: object
) -> Supernet:
    network, teacher = make_network("classification").to(dtype), make_network("classification").to(dtype)
    space = make_space()
    sampler = Sampler(space, "sandwich", 2, steps, 0, multiply_adds(space))
    losses = {"labels": 0.5, "soft_labels": 0.5, "hidden": 1.0}
    if steps == 1:
        # Losses that weigh every text alike, however a batch is parted; hidden states are averaged over tokens.
        del losses["hidden"]
    objective = Objective(losses, network.dimensions).to(dtype)
    train_supernet(network, teacher, objective, sampler, make_course(folder, steps, stop, "classification", **changes))
    return network


@pytest.mark.slow
@pytest.mark.parametrize("stop_after", [5, 8, 11])
def test_resumed_training_ends_with_the_same_weights(tmp_path: Path, stop_after: int) -> None:
    whole = train(tmp_path / "whole")
    with pytest.raises(KilledError):
        train(tmp_path / "killed", stop_after)
    resumed = train(tmp_path / "killed")
    untrained = make_network("classification")
    for name, tensor in whole.tensors.items():
        assert torch.equal(tensor, resumed.tensors[name]), name
        assert name == "embeddings.position" or not torch.equal(tensor, untrained.tensors[name]), f"{name} never moved"


def test_accumulated_parts_train_like_one_batch(tmp_path: Path) -> None:
    whole, parts = train(tmp_path / "one", steps=1), train(tmp_path / "four", steps=1, accumulation=4)
    for name, tensor in whole.tensors.items():
        torch.testing.assert_close(parts.tensors[name].grad, tensor.grad, atol=1e-6, rtol=1e-3, msg=name)


@pytest.mark.slow
def test_the_newest_two_states_are_kept_and_those_of_other_inputs_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "supernet-other-00000004.safetensors"
    other.write_bytes(b"of another training")
    train(tmp_path)
    names = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert names == ["supernet-inputs-00000008.safetensors", "supernet-inputs-00000012.safetensors", other.name]
    with safe_open(tmp_path / names[1], "pt") as state:
        assert state.metadata()["step"] == "12"


@pytest.mark.slow
def test_a_damaged_state_gives_way_to_the_one_before(tmp_path: Path) -> None:
    whole = train(tmp_path)
    (tmp_path / "supernet-inputs-00000012.safetensors").write_bytes(b"\x10" * 40)
    resumed = train(tmp_path)
    assert all(torch.equal(whole.tensors[name], tensor) for name, tensor in resumed.tensors.items())


@pytest.mark.slow
def test_finished_training_computes_no_step_again(tmp_path: Path) -> None:
    train(tmp_path)
    steps: list[int] = []
    fine_tune(
        make_network("classification"), make_course(tmp_path, 4, head="classification", name="x", steps_seen=steps)
    )
    fine_tune(
        make_network("classification"), make_course(tmp_path, 4, head="classification", name="x", steps_seen=steps)
    )
    assert steps == [1, 2, 3, 4]


def test_a_loss_that_is_not_finite_stops_and_names_step_and_subnet(tmp_path: Path) -> None:
    network, space = make_network("classification"), make_space()
    with torch.no_grad():
        network.tensors["layers.0.ffn_in.bias"][0] = torch.nan
    sampler = Sampler(space, "sandwich", 1, 4, 0, None)
    objective = Objective({"labels": 1.0}, network.dimensions)
    with pytest.raises(TrainingError, match=r"step 0 for the subnet hidden 32.*learning rate"):
        train_supernet(network, None, objective, sampler, make_course(tmp_path, 4, head="classification"))
    assert not list(tmp_path.glob("*.safetensors"))


def test_gradients_that_are_not_finite_stop_before_they_reach_the_weights(tmp_path: Path) -> None:
    network = make_network("classification")
    network.tensors["head.classifier.weight"].register_hook(lambda gradient: gradient * torch.inf)
    before = {name: tensor.detach().clone() for name, tensor in network.tensors.items()}
    with pytest.raises(TrainingError, match="gradients are not finite at step 0"):
        fine_tune(network, make_course(tmp_path, 4, head="classification"))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.tensors.items())


_OUT_OF_MEMORY = """
import resource, sys
import torch
from pathlib import Path
from ortnas.nas.failures import TrainingError
from ortnas.nas.training.steps import fine_tune
from tests.nas.training.courses import make_course, make_network
torch.set_num_threads(1)
folder = Path(sys.argv[1])
fine_tune(make_network("classification", ffn_size=16384), make_course(folder / "warm", 1, head="classification"))
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
network = make_network("classification", ffn_size=16384)
course = make_course(folder, 4, head="classification", batch_size=512, texts=512)
resource.setrlimit(resource.RLIMIT_AS, (used + 700_000_000,) * 2)
try:
    fine_tune(network, course)
except TrainingError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits address space by Linux's means")
def test_out_of_memory_names_a_batch_that_fits(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _OUT_OF_MEMORY, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert "out of memory at step 0 for 512 texts" in done.stdout, done.stderr[-2000:]
    accumulation = int(done.stdout.split("training.accumulation to ")[1].split()[0])
    assert accumulation in (2, 4, 8, 16, 32, 64)


_TWO_PROCESSES = """
import os, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from tests.nas.training.test_engine import train
torch.set_num_threads(1)
folder = Path(sys.argv[1])
once, often = (train(folder / str(steps), steps=steps, distributed=True) for steps in (1, 6))
tensors = {f"gradient:{name}": tensor.grad for name, tensor in once.tensors.items()}
tensors |= {f"weights:{name}": tensor.detach() for name, tensor in often.tensors.items()}
save_file(tensors, folder / f"rank{os.environ['RANK']}.safetensors")
"""


@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path: Path) -> None:
    """Data parallel over gloo: the ranks' weights stay equal, and their averaged gradients are those of one process."""
    script = tmp_path / "train.py"
    script.write_text(_TWO_PROCESSES)
    root = Path(__file__).parents[3]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29713"]
    environment = {
        "PYTHONPATH": str(root),
        "ACCELERATE_USE_CPU": "true",
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        [*command, str(script), str(tmp_path)], capture_output=True, text=True, check=False, cwd=root, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    alone = train(tmp_path / "alone", steps=1)
    with (
        safe_open(tmp_path / "rank0.safetensors", "pt") as first,
        safe_open(tmp_path / "rank1.safetensors", "pt") as second,
    ):
        for name, tensor in alone.tensors.items():
            assert torch.equal(first.get_tensor(f"weights:{name}"), second.get_tensor(f"weights:{name}")), name
            gradient = first.get_tensor(f"gradient:{name}")
            torch.testing.assert_close(gradient, tensor.grad, atol=1e-6, rtol=1e-3, msg=name)


@pytest.mark.slow
def test_bf16_trains_and_keeps_float32_weights(tmp_path: Path) -> None:
    network = train(tmp_path, mixed_precision="bf16")
    exact = train(tmp_path / "exact")
    assert {tensor.dtype for tensor in network.tensors.values()} == {torch.float32}
    differences = [(network.tensors[name] - tensor).abs().max().item() for name, tensor in exact.tensors.items()]
    assert 0 < max(differences) < 0.05


@pytest.mark.parametrize(
    ("isa", "expected"),
    [(["avx2"], "no"), (["avx512f", "avx512_vnni"], "no"), (["avx512_bf16"], "bf16"), (["amx_bf16"], "bf16")],
)
def test_bfloat16_is_chosen_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, isa: list[str], expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(engine, "fingerprint", lambda: {"isa": isa})
    assert engine.fast_precision() == expected
    assert engine.choose_accelerator("auto").mixed_precision == expected
    assert engine.choose_accelerator("no").mixed_precision == "no"


def test_sparse_gradients_train_as_dense_ones_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over several batches of other rows, each in parts.

    In float64: a key's bias, which softmax does not see, has a gradient of rounding alone, and of float32's Adam makes
    whole steps.
    """
    sparse = train(tmp_path / "a", dtype=torch.float64, accumulation=2)
    look_up = Supernet.look_up
    monkeypatch.setattr(Supernet, "look_up", lambda self, ids, types, sparse_gradient=False: look_up(self, ids, types))
    dense = train(tmp_path / "b", dtype=torch.float64, accumulation=2)
    for name, tensor in dense.tensors.items():
        torch.testing.assert_close(sparse.tensors[name], tensor, atol=1e-6, rtol=0, msg=name)


def test_losses_are_computed_in_float32(tmp_path: Path) -> None:
    losses: list[Tensor] = []

    class Listening(Objective):
        def forward(self, *signals: Any) -> Tensor:
            assert not torch.is_autocast_enabled("cpu")
            losses.append(super().forward(*signals))
            return losses[-1]

    network, space = make_network(seed=1), make_space()
    objective = Listening(choose_losses("embedding", None), network.dimensions)
    course = make_course(tmp_path, 2, mixed_precision="bf16")
    train_supernet(network, make_network(), objective, [[space.largest]] * 2, course)
    assert [loss.dtype for loss in losses] == [torch.float32] * 2
    assert all(loss.item() != loss.bfloat16().item() for loss in losses)


def test_a_resumed_training_counts_the_steps_of_each_weight(tmp_path: Path) -> None:
    """Layers that a step leaves out take no step, and AdamW's correction of its moments goes by their own number."""
    space = make_space()
    small, large = replace(space.largest, layers=space.largest.layers[:1]), space.largest

    def trained(folder: Path, stop: int | None) -> Supernet:
        network = make_network("classification")
        objective = Objective({"labels": 1.0}, network.dimensions)
        course = make_course(folder, 6, stop, "classification")
        train_supernet(network, None, objective, [[small]] * 3 + [[large]] * 3, course)
        return network

    whole = trained(tmp_path / "whole", None)
    with pytest.raises(KilledError):
        trained(tmp_path / "killed", 5)
    resumed = trained(tmp_path / "killed", None)
    for name, tensor in whole.tensors.items():
        assert torch.equal(tensor, resumed.tensors[name]), name


def test_a_training_that_is_over_leaves_nothing_in_memory(tmp_path: Path) -> None:
    """A run trains several networks with one accelerator."""
    network, course = make_network("classification"), make_course(tmp_path, 2, head="classification")
    fine_tune(network, course)
    weight = weakref.ref(network.tensors["layers.0.ffn_in.weight"])
    del network
    gc.collect()
    assert course.accelerator.num_processes == 1
    assert weight() is None


def test_smaller_parts_are_tried_when_what_was_too_much_is_gone(tmp_path: Path) -> None:
    computed: list[weakref.ref[Tensor]] = []

    def gradients(batch: Batch, *_: object) -> None:
        assert all(reference() is None for reference in computed)
        activations = torch.ones(3)
        computed.append(weakref.ref(activations))
        if len(batch["input_ids"]) > 2:
            raise RuntimeError("CUDA out of memory")

    course = make_course(tmp_path, 1, head="classification")
    parts = (course.accelerator, [make_network("classification")], gradients, course.batches, course.batches.schedule)
    with pytest.raises(TrainingError, match=r"for 8 texts .* 2 fit\. Set training\.accumulation to 4"):
        optimise(*parts, course.states, course.after_step)
    assert len(computed) == 3


def test_pairs_stay_together_in_the_parts_that_are_tried(tmp_path: Path) -> None:
    sizes: list[int] = []

    def gradients(batch: Batch, *_: object) -> None:
        sizes.append(len(batch["input_ids"]))
        if sizes[-1] > 2:
            raise RuntimeError("not enough memory")

    course = make_course(tmp_path, 1)
    batch = {"input_ids": torch.ones(12, 4, dtype=torch.int64), "grades": torch.ones(12)}
    schedule = replace(course.batches.schedule, batch_size=12)
    parts = (course.accelerator, [make_network()], gradients, [[batch]], schedule)
    with pytest.raises(TrainingError, match=r"training\.accumulation to 6"):
        optimise(*parts, course.states, course.after_step)
    assert sizes == [12, 6, 2]


def test_two_processes_need_two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(TrainingError, match="2 processes were started on a machine with 1 GPU; start one for each"):
        engine.choose_accelerator("no")


def test_fp16_needs_a_gpu(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(TrainingError, match="mixed_precision = 'fp16'"):
        train(tmp_path, mixed_precision="fp16")


def test_states_of_a_step_hold_the_loss_scale(tmp_path: Path) -> None:
    network = make_network("classification")
    parameters = dict(network.weights.items())
    optimizer = torch.optim.AdamW(parameters.values())
    states = StateFiles(tmp_path, "a", "b")
    states.save(parameters, optimizer, {"scale": 1024.0}, 7)
    with safe_open(states.paths()[0], "pt") as state:
        assert json.loads(state.metadata()["scaler"]) == {"scale": 1024.0}
    assert states.load(parameters, optimizer) == (7, {"scale": 1024.0})
    assert len(make_batches("classification", 3)[0]) == 1
