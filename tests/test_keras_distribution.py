"""Keras on several devices and in several processes: programs of their own, as JAX has its devices from the beginning."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("faiss")

ROOT = Path(__file__).parents[1]
REFUSED = """
import os, keras
from finetuner.tuner.keras import KerasTuner
model = lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
def tried(make, **options):
    try:
        KerasTuner(make(), "TripletLoss", **options)
    except ValueError as error:
        print(error)
    else:
        print("accepted")
"""


@pytest.fixture
def engine(backend):
    """The engine of Keras; skips other backends."""
    if backend.name != "keras":
        pytest.skip("Keras only")
    return backend.engine


def start(*arguments, devices=1, **environment):
    """A process of Python with this number of devices. JAX compiles in half the time without most optimizations."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", **environment}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes):
    """What processes print, which must end without an error."""
    found = [process.communicate(timeout=300)[0] for process in processes]
    assert not any(process.returncode for process in processes), "\n".join(found)
    return found[0]


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def lines(script, **environment):
    return finish(start("-c", REFUSED + script, **environment)).splitlines()


def needs(engine, wanted):
    if engine != wanted:
        pytest.skip(f"{wanted} only")


def test_devices_train_what_one_does(engine):
    needs(engine, "jax")
    program = ("-m", "tests.processes.in_keras", "--only")
    found = finish(start(*program, "mined,arcface micro,clip", devices=4))
    assert found.count("on 4 devices of 1 processes") == 3


def test_the_work_is_shared(engine):
    needs(engine, "jax")
    program = start("-m", "tests.processes.in_keras", "--flops", devices=4, JAX_DISABLE_MOST_OPTIMIZATIONS="0")
    assert "flops on one device" in finish(program)  # it fails if each device does more than 0.3 of them


def test_processes_train_what_one_does(engine):
    needs(engine, "jax")
    program = ("-m", "tests.processes.in_keras", "--only", "ntxent micro", "--of", "2", "--port", str(free_port()))
    found = finish(*(start(*program, "--process", str(rank), devices=2) for rank in range(2)))
    assert "on 4 devices of 2 processes" in found


def test_a_difference_is_found(engine):
    needs(engine, "jax")
    process = start("-m", "tests.processes.in_keras", "--only", "triplets", "--plant", "cut", devices=4)
    found = process.communicate(timeout=300)[0]
    assert process.returncode, found
    assert "WRONG triplets" in found


def test_processes_of_torch_train_what_one_does(engine):
    needs(engine, "torch")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    found = finish(start(*launcher, "-m", "tests.processes.in_keras", "--only", "mined,arcface micro,clip"))
    assert found.count("in 2 processes") == 3


def test_tensorflow_is_refused(engine):
    needs(engine, "tensorflow")
    found = lines(
        """
import tensorflow
strategy = tensorflow.distribute.MirroredStrategy(["/cpu:0"])
with strategy.scope():
    made = model()
    tried(lambda: made)
tried(lambda: made, processes=False)
os.environ |= {"RANK": "0", "WORLD_SIZE": "2"}
tried(model)
tried(model, processes=False)
os.environ["WORLD_SIZE"] = "1"
os.environ["TF_CONFIG"] = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}'
tried(model)
del os.environ["TF_CONFIG"]
keras.distribution.set_distribution(keras.distribution.DataParallel(devices=["cpu:0"]))
tried(lambda: model())
"""
    )
    found = [line for line in found if "keras.distribution" in line or line == "accepted"]
    assert [line.partition(";")[0].partition(",")[0] for line in found] == [
        "a model must not be trained by tf.distribute",
        "a model must not be trained by tf.distribute",
        "Keras on TensorFlow must train in a single process",
        "accepted",
        "Keras on TensorFlow must train in a single process",
        "keras.distribution must be used with Keras on JAX",
    ]
    assert all("DataParallel" in line for line in found if line != "accepted")


def test_what_jax_cannot_share_is_refused(engine):
    needs(engine, "jax")
    found = lines(
        """
before, distribution = model(), keras.distribution.DataParallel()
with distribution.scope():
    tried(lambda: before)
    tried(model)
mesh = keras.distribution.DeviceMesh((1, 2), ["batch", "model"], keras.distribution.list_devices())
layout = keras.distribution.LayoutMap(mesh)
with keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch").scope():
    tried(model)
os.environ |= {"RANK": "0", "WORLD_SIZE": "2"}
tried(model)
""",
        devices=2,
    )
    starts = (
        "the model must be made while the distribution of keras.distribution is set",
        "accepted",
        "the distribution must be a keras.distribution.DataParallel of one axis",
        "several processes of Keras on JAX must begin with keras.distribution.initialize()",
    )
    assert len(found) == 4
    assert all(line.startswith(start) for line, start in zip(found, starts, strict=True)), found
