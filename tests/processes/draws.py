"""What a loss draws in a loop of one's own is the same in all processes: ``draws.py pytorch``, by a launcher."""

import importlib
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.backends import backend_of

backend = backend_of(sys.argv[1])
processes = importlib.import_module(f"tests.processes.in_{backend.name}").join_processes()
across = importlib.import_module(f"finetuner.tuner.{backend.name}.processes").AcrossProcesses
framework = importlib.import_module(backend.framework)
getattr(framework, "manual_seed" if backend.name == "pytorch" else "seed")(processes.rank)  # as scripts do
rng = np.random.default_rng(0)
x, y = rng.normal(size=(24, 8)).astype(np.float32), rng.integers(0, 400, 24)
loss = across(backend.loss("ArcFaceLoss", in_features=8, num_classes=400, sample=0.1))
values = [float(backend.numpy(loss(backend.tensor(x), backend.tensor(y)))) for _ in range(3)]
everywhere = processes.gather_objects(values)
print(f"{everywhere} in {processes.count} processes", flush=True)
sys.exit(any(other != values for other in everywhere) or len(set(values)) < 3)
