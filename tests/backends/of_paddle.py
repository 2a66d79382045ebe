import paddle
import pytest

from . import Backend


class Paddle(Backend):
    name = framework = "paddle"

    def tensor(self, x, dtype=None):
        return None if x is None else paddle.to_tensor(x, dtype=dtype)

    def numpy(self, x):
        return x.detach().numpy()

    def value_and_grads(self, function, arrays, constants):
        inputs = [self.tensor(x, "float32") for x in arrays]
        for x in inputs:
            if x is not None:
                x.stop_gradient = False
        value = function(*inputs, *map(self.tensor, constants))
        weight = paddle.arange(1.0, 1 + value.size, dtype="float32").reshape(value.shape)
        (weight * value).sum().backward()
        return self.numpy(value), [None if x is None else self.numpy(x.grad) for x in inputs]

    def compiled(self, function, how):
        return paddle.jit.to_static(function, full_graph=True)

    def mlp(self, *widths, seed=0, dropout=0.0):
        paddle.seed(seed)
        layers = []
        for i in range(len(widths) - 1):
            rest = [paddle.nn.ReLU(), paddle.nn.Dropout(dropout)] if i + 2 < len(widths) else []
            layers += [paddle.nn.Linear(widths[i], widths[i + 1]), *rest]
        return paddle.nn.Sequential(*layers)

    def with_output(self, model, function):
        class Wrapped(paddle.nn.Layer):
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
            pytest.skip("Paddle casts nothing on a CPU, and warns")
        return paddle.amp.auto_cast(dtype="bfloat16")
