"""The Keras backend of the tests."""

import contextlib

import keras
import numpy as np
from keras import ops

from . import Backend


class KerasBackend(Backend):
    name = framework = "keras"
    engines = frozenset({"tensorflow", "jax", "torch"})  # KERAS_BACKEND selects one of them

    engine = keras.backend.backend()
    has_float64 = engine != "jax"
    modes = ("eager",) if engine == "torch" else ("eager", "traced")

    native = {
        "mse": ("MeanSquaredError", {}),
        "mae": ("MeanAbsoluteError", {}),
        "huber": ("Huber", {}),
        "cross-entropy": ("SparseCategoricalCrossentropy", {"from_logits": True}),
    }

    def native_loss(self, name, options):
        return getattr(keras.losses, name)(**options)

    def two_inputs(self, first, second):
        a, b = keras.Input(first.input_shape[1:]), keras.Input(second.input_shape[1:])
        return keras.Model([a, b], [first(a), second(b)])

    def tensor(self, x, dtype=None):
        return None if x is None else keras.ops.convert_to_tensor(x, dtype=dtype)

    def numpy(self, x):
        return keras.ops.convert_to_numpy(x)

    def layout(self, x, back=False):
        if x.ndim < 4:
            return x
        return np.moveaxis(x, -1, 1) if back else np.moveaxis(x, 1, -1)

    def value_and_grads(self, function, arrays, constants):
        inputs = [self.tensor(x, "float32") for x in arrays]
        constants = [*map(self.constant, constants)]

        def weighted(*inputs):
            value = function(*inputs, *constants)
            return weighted_sum(value), value

        value, grads = getattr(self, f"{self.engine}_value_and_grads")(weighted, inputs)
        return self.numpy(value), [None if x is None else self.numpy(g) for x, g in zip(inputs, grads, strict=True)]

    def gradient(self, function, x):
        _, (grad,) = getattr(self, f"{self.engine}_value_and_grads")(
            lambda x: (ops.sum(function(x)), ops.zeros(())), [self.tensor(x, "float32")]
        )
        return self.numpy(grad)

    def penalty_gradient(self, function, x):
        x = self.tensor(x, "float32")
        if self.engine == "jax":
            import jax

            first = jax.grad(lambda x: ops.sum(function(x)))
            return self.numpy(jax.grad(lambda x: ops.sum(first(x) ** 2))(x))
        if self.engine == "tensorflow":
            import tensorflow

            with tensorflow.GradientTape() as outer:
                outer.watch(x)
                with tensorflow.GradientTape() as inner:
                    inner.watch(x)
                    value = ops.sum(function(x))
                penalty = ops.sum(inner.gradient(value, x) ** 2)
            return self.numpy(outer.gradient(penalty, x))
        import torch

        x.requires_grad_(True)
        (gradient,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
        return self.numpy(torch.autograd.grad((gradient**2).sum(), x)[0])

    def torch_value_and_grads(self, weighted, inputs):
        for x in inputs:
            if x is not None:
                x.requires_grad_(True)
        total, value = weighted(*inputs)
        total.backward()
        return value, [None if x is None else x.grad for x in inputs]

    def tensorflow_value_and_grads(self, weighted, inputs):
        import tensorflow

        present = [x for x in inputs if x is not None]
        with tensorflow.GradientTape() as tape:
            tape.watch(present)
            total, value = weighted(*inputs)
        grads = iter(tape.gradient(total, present))
        return value, [None if x is None else next(grads) for x in inputs]

    def jax_value_and_grads(self, weighted, inputs):
        import jax

        argnums = [i for i, x in enumerate(inputs) if x is not None]
        (_, value), grads = jax.value_and_grad(weighted, argnums=argnums, has_aux=True)(*inputs)
        grads = iter(grads)
        return value, [None if x is None else next(grads) for x in inputs]

    def compiled(self, function, how):
        if self.engine == "torch":
            from .pytorch_backend import compile_torch

            return compile_torch(function, how, fullgraph=False)  # dynamo cannot trace how Keras resolves dtypes
        if self.engine == "jax":
            import jax

            return jax.jit(function)

        import tensorflow

        return tensorflow.function(function, jit_compile=True)

    def mlp(self, *widths, seed=0, dropout=0.0, name=None):
        keras.utils.set_random_seed(seed)
        layers = [keras.Input((widths[0],))]
        for i in range(1, len(widths)):
            last = i + 1 == len(widths)
            own = name and f"{name}{i}"
            layers += [keras.layers.Dense(widths[i], None if last else "relu", name=own)]
            layers += [] if last else [keras.layers.Dropout(dropout)]
        return keras.Sequential(layers, name=name)

    def conv(self):
        layers = [keras.Input((8, 8, 1))]
        for width in (8, 16):
            layers += [
                keras.layers.Conv2D(width, 3, padding="same", use_bias=False),
                keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5),
                keras.layers.ReLU(),
            ]
        return keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(8)])

    def pooling_model(self, kind):
        keras.utils.set_random_seed(0)
        layers = keras.layers
        body = keras.Sequential(
            [keras.Input((8, 8, 3)), layers.MaxPooling2D(), layers.Conv2D(4, 3, padding="same", activation="relu")]
        )
        pool = layers.GlobalAveragePooling2D(keepdims=kind == "sequential")

        class Subclassed(keras.Model):
            def __init__(self, inner):
                super().__init__()
                self.body, self.parts = body, {"inner": [inner]}
                self.rest = layers.Flatten()

            def call(self, x):
                return self.rest(self.parts["inner"][0](self.body(x)))

        def functional(inner):
            x = keras.Input((8, 8, 3), name="image")
            return keras.Model(x, layers.Flatten()(inner(body(x)) + 0.0))

        models = {
            "sequential": lambda: keras.Sequential([body, pool, layers.Flatten()]),
            "nested": lambda: functional(keras.Sequential([keras.Input((4, 4, 4)), pool])),
            "subclassed": lambda: Subclassed(pool),
            "around another": lambda: Subclassed(keras.Sequential([pool, layers.Identity()])),
            "inside another": lambda: keras.Sequential([Subclassed(pool), layers.Identity()]),
            "ours": lambda: functional(self.poolers.AveragePooling()),
        }
        return models[kind](), body

    def layer(self, kind, *sizes):
        layers = keras.layers
        makers = {
            "conv": lambda width, out, window: layers.Conv2D(out, window, padding="same"),
            "linear": lambda width, out: layers.Dense(out),
            "global pool": lambda: layers.GlobalAveragePooling2D(keepdims=True),
            "max pool": layers.MaxPooling2D,
            "average pool": layers.AveragePooling2D,
            "pool to": layers.AdaptiveAveragePooling2D,
            "norm": lambda width: layers.BatchNormalization(),
            "dropout": layers.Dropout,
        }
        return makers[kind](*sizes)

    def spatial_mean(self, x):
        return ops.mean(x, axis=(1, 2))

    def twice(self, x):
        """Maps of twice the height and width."""
        return ops.tile(x, (1, 2, 2, 1))

    def sigmoid(self, x):
        return ops.sigmoid(x)

    def program(self, layers, forward):
        """A model with these layers, in this order, that is computed by a function of them and the input."""

        class Program(keras.Model):
            def __init__(self):
                super().__init__()
                self.parts = dict(layers)

            def call(self, x):
                return forward(self.parts, x)

        return Program()

    def single_layer_model(self, layer):
        return keras.Sequential([layer])

    def pooling_layers(self):
        layers = keras.layers
        cases = {}
        for name, cls in vars(layers).items():
            if not name.endswith(("Pooling1D", "Pooling2D", "Pooling3D")):
                continue
            axes = int(name[-2])
            for data_format in ("channels_first", "channels_last"):
                for keepdims in (False, True) if "Global" in name else (True,):
                    options = {"keepdims": keepdims} if "Global" in name else {}
                    layer = cls(*[1] * ("Global" not in name), data_format=data_format, **options)
                    cases[f"{name}, {data_format}, {keepdims}"] = layer, axes, data_format == "channels_last", keepdims
        return cases

    def named_weights(self, layer):
        return {variable.name: variable for variable in layer.trainable_variables}

    def assign(self, weight, value):
        weight.assign(value)

    def gradient_wrt(self, weight, layer, x, mask):
        x, mask = self.tensor(x, "float32"), self.tensor(mask)
        if self.engine == "torch":
            weight.value.grad = None
            weighted_sum(layer(x, mask=mask)).backward()
            return float(weight.value.grad)
        if self.engine == "tensorflow":
            import tensorflow

            with tensorflow.GradientTape() as tape:
                total = weighted_sum(layer(x, mask=mask))
            return float(tape.gradient(total, weight.value))
        import jax

        layer(x, mask=mask)  # builds the layer
        return float(
            jax.grad(lambda value: weighted_sum(layer.stateless_call([value], [], x, mask=mask)[0]))(weight.value)
        )

    def sgd(self, model):
        return keras.optimizers.SGD(0.1)

    def carry(self, model, layers):
        weighted_layers = [layer for layer in model.layers if layer.get_weights() and "dropout" not in layer.name]
        for layer, arrays in zip(weighted_layers, layers, strict=True):
            layer.set_weights(arrays)

    def with_output(self, model, function):
        class Wrapped(keras.Model):
            def __init__(self):
                super().__init__()
                self.model = model

            def call(self, x, training=False):
                return function(self.model(x, training=training))

        return Wrapped()

    def frozen(self, model):
        model.trainable = False
        return model

    def detached(self, x):
        return keras.ops.stop_gradient(x)

    def sum(self, x, axis):
        return keras.ops.sum(x, axis)

    def cast(self, x, dtype):
        return keras.ops.cast(x, dtype)

    @contextlib.contextmanager
    def autocast(self):
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            yield
        finally:
            keras.config.set_dtype_policy(before)


def weighted_sum(value):
    """The number that is differentiated: see :meth:`Backend.value_and_grads`."""
    size = int(np.prod(value.shape))
    dtype = keras.backend.standardize_dtype(value.dtype)
    weight = keras.ops.reshape(keras.ops.arange(1.0, 1 + size, dtype=dtype), value.shape)
    return keras.ops.sum(weight * value)
