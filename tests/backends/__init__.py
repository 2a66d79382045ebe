"""One interface to all frameworks for the tests: numpy in, numpy out."""

import importlib
import os

import numpy as np


class Backend:
    """Interface of all backends."""

    key: str  # the value of --backend
    name: str  # the subpackage of finetuner.tuner
    framework: str  # the package that the subpackage imports
    engines: frozenset[str] = frozenset()  # packages that the framework may import
    modes = ("eager", "traced")  # supported modes of execution
    has_float64 = True
    epsilon = "epsilon"  # the name of this argument of Adam

    def __init__(self):
        for module in ("losses", "miner", "poolers", "functional", "blocks", "relations"):
            setattr(self, module, importlib.import_module(f"finetuner.tuner.{self.name}.{module}"))
        self.replace_pooling = importlib.import_module(f"finetuner.tuner.{self.name}.surgery").replace_pooling
        self.Tuner = importlib.import_module(f"finetuner.tuner.{self.name}").Tuner

    def loss(self, name, miner=None, weights=None, sampled=None, **params):
        """Create the loss ``name``, without the part after a colon.

        ``miner`` are the options of a miner. ``sampled`` are classes that are seen in place of random ones.
        """
        cls = getattr(self.losses, name.partition(":")[0])
        if miner is not None:
            kind = {"triplets": "TripletEasyHardMiner", "pairs": "SiameseEasyHardMiner"}[cls.tuples]
            params["miner"] = getattr(self.miner, kind)(**miner)
        loss = cls(**params)
        if weights is not None:
            loss.make_weights(weights)
        if sampled is not None:
            dtype = "int32" if self.name == "keras" else "int64"
            loss.sampled_classes = lambda classes, in_batch: self.tensor(sampled, dtype)
        return loss

    def tensor(self, x, dtype=None):
        """``x`` as a tensor. None stays None."""
        raise NotImplementedError

    def constant(self, x):
        """``x`` as a tensor. Floats become float32."""
        return self.tensor(x, "float32" if getattr(x, "dtype", np.dtype(int)).kind == "f" else None)

    def gradient(self, function, x):
        """The gradient of the sum of ``function`` at ``x``, in the precision in which losses have second derivatives."""
        raise NotImplementedError

    def penalty_gradient(self, function, x):
        """The gradient by ``x`` of the squared norm of :meth:`gradient`, by differentiating twice."""
        raise NotImplementedError

    def numpy(self, x):
        """A tensor as a numpy array."""
        raise NotImplementedError

    def layout(self, x, back=False):
        """Convert feature maps from channels-first to the layout of the framework, or ``back``."""
        return x

    def value_and_grads(self, function, arrays, constants):
        """The value of ``function(*arrays, *constants)``, and gradients of ``sum(w * value)`` with w = 1, 2, ...

        There is one gradient per array.
        """
        raise NotImplementedError

    def compiled(self, function, how):
        """Compile ``function``: "traced" is without code generation, "full" is with all optimizations."""
        raise NotImplementedError

    def mlp(self, *widths, seed=0, dropout=0.0, name=None):
        """A multilayer perceptron from ``[N, widths[0]]`` to ``[N, widths[-1]]``, with ReLU.

        With a ``name``, all models have the same names of weights, also where a framework numbers its layers.
        """
        raise NotImplementedError

    def conv(self):
        """3 x 3 convolutions with 8 and 16 channels, batch norm and ReLU, then average pooling and 8 dense units."""
        raise NotImplementedError

    def pooling_model(self, kind):
        """A ``kind`` of model with average pooling after ``body``, which takes 3 channels. Returns both."""
        raise NotImplementedError

    def single_layer_model(self, layer):
        """A model with one layer."""
        raise NotImplementedError

    def pooling_layers(self):
        """The pooling layers of the framework by name: layer, number of axes, channels last, keeps the axes."""
        raise NotImplementedError

    def named_weights(self, layer):
        """The trainable weights of a layer by name."""
        raise NotImplementedError

    def assign(self, weight, value):
        """Set a weight to a value."""
        raise NotImplementedError

    def gradient_wrt(self, weight, layer, x, mask):
        """The gradient of ``sum(w * layer(x, mask))`` with w = 1, 2, ... with respect to the only weight."""
        raise NotImplementedError

    def sgd(self, model):
        """An optimizer instance for a model."""
        raise NotImplementedError

    def carry(self, model, layers):
        """Set the weights of the layers of a model, in their order and in the layout of Keras."""
        raise NotImplementedError

    def with_output(self, model, function):
        """A model that applies ``function`` to the output of ``model``."""
        raise NotImplementedError

    native = {}  # names and options of losses of the framework, by a common name

    def native_loss(self, name, options):
        """An instance of a loss of the framework."""
        raise NotImplementedError

    def two_inputs(self, first, second):
        """A model with two inputs, one for each of two models."""
        raise NotImplementedError

    def frozen(self, model):
        """``model`` without trainable weights."""
        raise NotImplementedError

    def detached(self, x):
        """``x`` without a gradient."""
        raise NotImplementedError

    def sum(self, x, axis):
        """The sum along an axis."""
        raise NotImplementedError

    def cast(self, x, dtype):
        """``x`` with another dtype."""
        raise NotImplementedError

    def autocast(self):
        """A context in which the framework computes in bfloat16 where it can."""
        raise NotImplementedError


def weighted(value):
    """The number that :meth:`Backend.value_and_grads` differentiates, from the value of a reference."""
    value = np.asarray(value)
    return (np.arange(1.0, 1 + value.size).reshape(value.shape) * value).sum()


BACKENDS = ("pytorch", "keras-tensorflow", "keras-jax", "keras-torch", "paddle")


def backend_of(name):
    """Create the backend ``name``. A process has only one, because Keras selects its engine at import."""
    framework, _, engine = name.partition("-")
    if engine:
        os.environ["KERAS_BACKEND"] = engine
    backend = getattr(importlib.import_module(f".{framework}_backend", __name__), f"{framework.capitalize()}Backend")()
    backend.key = name
    return backend
