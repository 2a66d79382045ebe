"""The Paddle backend of the tests."""

import numpy as np
import paddle
import pytest
from paddle import nn

from . import Backend


class PaddleBackend(Backend):
    name = framework = "paddle"

    native = {
        "mse": ("MSELoss", {}),
        "mae": ("L1Loss", {}),
        "huber": ("SmoothL1Loss", {}),
        "cross-entropy": ("CrossEntropyLoss", {}),
    }

    def native_loss(self, name, options):
        return getattr(nn, name)(**options)

    def two_inputs(self, first, second):
        class TwoInputs(nn.Layer):
            def __init__(self):
                super().__init__()
                self.first, self.second = first, second

            def forward(self, a, b):
                return self.first(a), self.second(b)

        return TwoInputs()

    def tensor(self, x, dtype=None):
        return None if x is None else paddle.to_tensor(x, dtype=dtype)

    def numpy(self, x):
        return x.detach().numpy()

    def value_and_grads(self, function, arrays, constants):
        inputs = [self.tensor(x, "float32") for x in arrays]
        for x in inputs:
            if x is not None:
                x.stop_gradient = False
        value = function(*inputs, *map(self.constant, constants))
        weight = paddle.arange(1.0, 1 + value.size, dtype="float32").reshape(value.shape)
        (weight * value).sum().backward()
        return self.numpy(value), [None if x is None else self.numpy(x.grad) for x in inputs]

    def gradient(self, function, x):
        x = paddle.to_tensor(x, stop_gradient=False)
        return self.numpy(paddle.grad(function(x).sum(), x)[0])

    def penalty_gradient(self, function, x):
        x = paddle.to_tensor(x, stop_gradient=False)
        (gradient,) = paddle.grad(function(x).sum(), x, create_graph=True)
        return self.numpy(paddle.grad((gradient**2).sum(), x)[0])

    def compiled(self, function, how):
        def call(arguments):  # the compiler does not support *arguments
            return function(*arguments)

        compiled = paddle.jit.to_static(call, full_graph=True)
        return lambda *arguments: compiled(arguments)

    def mlp(self, *widths, seed=0, dropout=0.0, name=None):
        paddle.seed(seed)
        layers = []
        for i in range(len(widths) - 1):
            rest = [nn.ReLU(), nn.Dropout(dropout)] if i + 2 < len(widths) else []
            layers += [nn.Linear(widths[i], widths[i + 1]), *rest]
        return nn.Sequential(*layers)

    def conv(self):
        layers, channels = [], 1
        for width in (8, 16):
            convolution = nn.Conv2D(channels, width, 3, padding=1, bias_attr=False)
            layers += [convolution, nn.BatchNorm2D(width, 0.9, 1e-5), nn.ReLU()]
            channels = width
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(16, 8))

    def pooling_model(self, kind):
        paddle.seed(0)
        body, pool = nn.Sequential(nn.MaxPool2D(2), nn.Conv2D(3, 4, 3, padding=1), nn.ReLU()), nn.AdaptiveAvgPool2D(1)

        class Subclassed(nn.Layer):
            def __init__(self, inner):
                super().__init__()
                self.body, self.inner = body, inner
                self.rest = nn.LayerList([nn.Flatten()])

            def forward(self, x):
                for layer in (self.body, self.inner, *self.rest):
                    x = layer(x)
                return x

        models = {
            "sequential": lambda: nn.Sequential(body, pool, nn.Flatten()),
            "nested": lambda: nn.Sequential(nn.Sequential(body, nn.Sequential(pool)), nn.Flatten()),
            "subclassed": lambda: Subclassed(pool),
            "around another": lambda: Subclassed(nn.Sequential(pool, nn.Identity())),
            "inside another": lambda: nn.Sequential(Subclassed(pool), nn.Identity()),
            "ours": lambda: nn.Sequential(body, self.poolers.AveragePooling()),
        }
        return models[kind](), body

    def layer(self, kind, *sizes):
        makers = {
            "conv": lambda width, out, window: nn.Conv2D(width, out, window, padding=window // 2),
            "linear": nn.Linear,
            "global pool": lambda: nn.AdaptiveAvgPool2D(1),
            "max pool": nn.MaxPool2D,
            "average pool": nn.AvgPool2D,
            "pool to": nn.AdaptiveAvgPool2D,
            "norm": nn.BatchNorm2D,
            "dropout": nn.Dropout,
        }
        return makers[kind](*sizes)

    def spatial_mean(self, x):
        return x.mean(axis=[2, 3])

    def twice(self, x):
        """Maps of twice the height and width."""
        return x.tile([1, 1, 2, 2])

    def sigmoid(self, x):
        return nn.functional.sigmoid(x)

    def program(self, layers, forward):
        """A model with these layers, in this order, that is computed by a function of them and the input."""

        class Program(nn.Layer):
            def __init__(self):
                super().__init__()
                self.layers = nn.LayerDict(layers)

            def forward(self, x):
                return forward(self.layers, x)

        return Program()

    def single_layer_model(self, layer):
        return nn.Sequential(layer)

    def pooling_layers(self):
        from finetuner.tuner.paddle.surgery import AXES

        arguments = {"Adaptive": (1,), "LP": (2, 2), "Fractional": (1,)}
        layers = {
            cls: cls(*next((values for kind, values in arguments.items() if cls.__name__.startswith(kind)), (2,)))
            for cls in AXES
        }
        channels_last = {
            "AvgPool2D, NHWC": (nn.AvgPool2D(2, data_format="NHWC"), 2, True, True),
            "AdaptiveAvgPool2D, NHWC": (nn.AdaptiveAvgPool2D(1, data_format="NHWC"), 2, True, True),
            "AdaptiveAvgPool3D, NDHWC": (nn.AdaptiveAvgPool3D(1, data_format="NDHWC"), 3, True, True),
            "LPPool1D, NLC": (nn.LPPool1D(2, 2, data_format="NLC"), 1, True, True),
        }
        return {cls.__name__: (layer, AXES[cls], False, True) for cls, layer in layers.items()} | channels_last

    def named_weights(self, layer):
        return dict(layer.named_parameters())

    def assign(self, weight, value):
        weight.set_value(paddle.full([], value, "float32"))

    def gradient_wrt(self, weight, layer, x, mask):
        weight.clear_gradient()
        value = layer(self.tensor(x, "float32"), self.tensor(mask))
        (paddle.arange(1.0, 1 + value.size, dtype="float32").reshape(value.shape) * value).sum().backward()
        return float(weight.grad)

    def sgd(self, model):
        return paddle.optimizer.SGD(0.1, model.parameters())

    def carry(self, model, layers):
        weighted_layers = [layer for layer in model if hasattr(layer, "weight")]
        for layer, arrays in zip(weighted_layers, layers, strict=True):
            arrays = [np.transpose(array, (3, 2, 0, 1)) if array.ndim == 4 else array for array in arrays]
            layer.set_state_dict(dict(zip(layer.state_dict(), arrays, strict=True)))

    def with_output(self, model, function):
        class Wrapped(nn.Layer):
            def __init__(self):
                super().__init__()
                self.model = model

            def forward(self, x):
                return function(self.model(x))

        return Wrapped()

    def frozen(self, model):
        for parameter in model.parameters():
            parameter.stop_gradient = True
        return model

    def detached(self, x):
        return x.detach()

    def sum(self, x, axis):
        return x.sum(axis)

    def cast(self, x, dtype):
        return x.astype(dtype)

    def autocast(self):
        if paddle.device.get_device() == "cpu":
            pytest.skip("Paddle does not cast on a CPU, and warns")
        return paddle.amp.auto_cast(dtype="bfloat16")
