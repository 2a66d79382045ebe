"""How the tests speak to each framework: numpy in, numpy out."""

import importlib
import os

import numpy as np


class Backend:
    key: str  # as the command line of the tests says it
    name: str  # of its subpackage
    framework: str  # what that imports
    engines: frozenset[str] = frozenset()  # and what that may import in turn
    modes = ("eager", "traced")  # that its users run it in
    has_float64 = True
    epsilon = "epsilon"  # what Adam calls it

    def __init__(self):
        for file in ("losses", "miner", "poolers", "functional", "blocks", "relations"):
            setattr(self, file, importlib.import_module(f"finetuner.tuner.{self.name}.{file}"))
        self.replace_pooling = importlib.import_module(f"finetuner.tuner.{self.name}.surgery").replace_pooling
        self.Tuner = importlib.import_module(f"finetuner.tuner.{self.name}").Tuner

    def loss(self, name, miner=None, weights=None, **params):
        """The loss ``name``, of which the reference may have several kinds; a miner is given by its parameters."""
        cls = getattr(self.losses, name.partition(":")[0])
        if miner is not None:
            kind = {"triplets": "TripletEasyHardMiner", "pairs": "SiameseEasyHardMiner"}[cls.tuples]
            params["miner"] = getattr(self.miner, kind)(**miner)
        loss = cls(**params)
        if weights is not None:
            loss.make_weights(weights)
        return loss

    def tensor(self, x, dtype=None):
        """``x`` as a tensor, None as it is."""
        raise NotImplementedError

    def constant(self, x):
        """``x`` as a tensor, of float32 if it holds no integers."""
        return self.tensor(x, "float32" if getattr(x, "dtype", np.dtype(int)).kind == "f" else None)

    def numpy(self, x):
        """A tensor as an array."""
        raise NotImplementedError

    def layout(self, x, back=False):
        """Feature maps with channels first, as this framework lays them out; or ``back`` again."""
        return x

    def value_and_grads(self, function, arrays, constants):
        """Of ``sum(w * function(*arrays, *constants))``, w = 1, 2, ...: the value, and a gradient an array."""
        raise NotImplementedError

    def compiled(self, function, how):
        """``function`` compiled: "traced" as a whole without code generation, or with all that there is."""
        raise NotImplementedError

    def mlp(self, *widths, seed=0, dropout=0.0):
        """A network of dense layers with rectifiers between, from ``[N, widths[0]]`` to ``[N, widths[-1]]``."""
        raise NotImplementedError

    def conv(self):
        """Convolutions of 3 x 3 to 8 and 16 channels, each with batch norm and rectifier; average; 8 dense units."""
        raise NotImplementedError

    def pooled(self, kind):
        """A model that averages what ``body`` makes of maps of 3 channels, as a ``kind`` of model; and ``body``."""
        raise NotImplementedError

    def around(self, layer):
        """A model of one layer."""
        raise NotImplementedError

    def pooling_layers(self):
        """Of the framework's own, by name: a layer, its axes, whether channels come last, whether it keeps axes."""
        raise NotImplementedError

    def named_weights(self, layer):
        """The weights that a layer trains, by their names in it."""
        raise NotImplementedError

    def assign(self, weight, value):
        """Give a weight a value."""
        raise NotImplementedError

    def gradient_by(self, weight, layer, x, mask):
        """Of ``sum(w * layer(x, mask))``, w = 1, 2, ..., by the one weight that the layer has."""
        raise NotImplementedError

    def sgd(self, model):
        """An optimizer that is made already."""
        raise NotImplementedError

    def carry(self, model, layers):
        """Give the layers of a model their weights, in their order and as Keras lays them out."""
        raise NotImplementedError

    def with_output(self, model, function):
        """A model that returns ``function`` of what ``model`` does."""
        raise NotImplementedError

    native = {}  # names and options of the framework's own losses, by what they are

    def native_loss(self, name, options):
        """An instance of one of the framework's own losses."""
        raise NotImplementedError

    def two_inputs(self, first, second):
        """A model with two inputs, of which each of two models takes one."""
        raise NotImplementedError

    def frozen(self, model):
        """``model``, without a weight to train."""
        raise NotImplementedError

    def detached(self, x):
        """``x`` without its gradient."""
        raise NotImplementedError

    def sum(self, x, axis):
        """Sum along an axis."""
        raise NotImplementedError

    def cast(self, x, dtype):
        """``x`` in another type."""
        raise NotImplementedError

    def autocast(self):
        """A context in which the framework computes in bfloat16 what it can."""
        raise NotImplementedError


def weighted(value):
    """What :meth:`Backend.value_and_grads` differentiates, of the reference's value."""
    value = np.asarray(value)
    return (np.arange(1.0, 1 + value.size).reshape(value.shape) * value).sum()


BACKENDS = ("pytorch", "keras-tensorflow", "keras-jax", "keras-torch", "paddle")


def backend_of(name):
    """The backend ``name``, one a process: Keras takes its engine when it is imported."""
    file, _, engine = name.partition("-")
    if engine:
        os.environ["KERAS_BACKEND"] = engine
    backend = getattr(importlib.import_module(f".of_{file}", __name__), file.capitalize())()
    backend.key = name
    return backend
