"""The PyTorch backend of the tests."""

import numpy as np
import torch
from torch import nn

from . import Backend


class PytorchBackend(Backend):
    name, framework, epsilon = "pytorch", "torch", "eps"

    native = {
        "mse": ("MSELoss", {}),
        "mae": ("L1Loss", {}),
        "huber": ("HuberLoss", {}),
        "cross-entropy": ("CrossEntropyLoss", {}),
    }

    def native_loss(self, name, options):
        return getattr(nn, name)(**options)

    def two_inputs(self, first, second):
        class TwoInputs(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second = first, second

            def forward(self, a, b):
                return self.first(a), self.second(b)

        return TwoInputs()

    def tensor(self, x, dtype=None):
        return None if x is None else torch.tensor(x, dtype=dtype and getattr(torch, dtype))

    def numpy(self, x):
        return x.detach().cpu().numpy()

    def value_and_grads(self, function, arrays, constants):
        inputs = [self.tensor(x, "float32") for x in arrays]
        for x in inputs:
            if x is not None:
                x.requires_grad_(True)
        value = function(*inputs, *map(self.constant, constants))
        weight = torch.arange(1.0, 1 + value.numel()).reshape(value.shape)
        (weight * value).sum().backward()
        return self.numpy(value), [None if x is None else self.numpy(x.grad) for x in inputs]

    def gradient(self, function, x):
        x = torch.tensor(x, requires_grad=True)
        return self.numpy(torch.autograd.grad(function(x).sum(), x)[0])

    def penalty_gradient(self, function, x):
        x = torch.tensor(x, requires_grad=True)
        (gradient,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
        return self.numpy(torch.autograd.grad((gradient**2).sum(), x)[0])

    def compiled(self, function, how):
        return compile_torch(function, how)

    def mlp(self, *widths, seed=0, dropout=0.0, name=None):
        torch.manual_seed(seed)
        layers = []
        for i in range(len(widths) - 1):
            rest = [nn.ReLU(), nn.Dropout(dropout)] if i + 2 < len(widths) else []
            layers += [nn.Linear(widths[i], widths[i + 1]), *rest]
        return nn.Sequential(*layers)

    def conv(self):
        layers, channels = [], 1
        for width in (8, 16):
            layers += [
                nn.Conv2d(channels, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width, 1e-5, 0.1),
                nn.ReLU(),
            ]
            channels = width
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 8))

    def pooling_model(self, kind):
        torch.manual_seed(0)
        body, pool = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()), nn.AdaptiveAvgPool2d(1)

        class Subclassed(nn.Module):
            def __init__(self, inner):
                super().__init__()
                self.body, self.inner = body, inner
                self.rest = nn.ModuleList([nn.Flatten()])

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
            "conv": lambda width, out, window: nn.Conv2d(width, out, window, padding=window // 2),
            "linear": nn.Linear,
            "global pool": lambda: nn.AdaptiveAvgPool2d(1),
            "max pool": nn.MaxPool2d,
            "average pool": nn.AvgPool2d,
            "pool to": nn.AdaptiveAvgPool2d,
            "norm": nn.BatchNorm2d,
            "dropout": nn.Dropout,
        }
        return makers[kind](*sizes)

    def spatial_mean(self, x):
        return x.mean(dim=(2, 3))

    def twice(self, x):
        """Maps of twice the height and width."""
        return x.repeat(1, 1, 2, 2)

    def sigmoid(self, x):
        return torch.sigmoid(x)

    def program(self, layers, forward):
        """A model with these layers, in this order, that is computed by a function of them and the input."""

        class Program(nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = nn.ModuleDict(layers)

            def forward(self, x):
                return forward(self.layers, x)

        return Program()

    def single_layer_model(self, layer):
        return nn.Sequential(layer)

    def pooling_layers(self):
        from finetuner.tuner.pytorch.surgery import AXES

        arguments = {"Adaptive": (1,), "LP": (2, 2), "Fractional": (2, 1)}
        layers = {
            cls: cls(*next((values for kind, values in arguments.items() if cls.__name__.startswith(kind)), (2,)))
            for cls in AXES
        }
        return {cls.__name__: (layer, AXES[cls], False, True) for cls, layer in layers.items()}

    def named_weights(self, layer):
        return dict(layer.named_parameters())

    def assign(self, weight, value):
        weight.data.fill_(value)

    def gradient_wrt(self, weight, layer, x, mask):
        weight.grad = None
        value = layer(self.tensor(x, "float32"), self.tensor(mask))
        (torch.arange(1.0, 1 + value.numel()).reshape(value.shape) * value).sum().backward()
        return float(weight.grad)

    def sgd(self, model):
        return torch.optim.SGD(model.parameters(), 0.1)

    def carry(self, model, layers):
        weighted_layers = [layer for layer in model if hasattr(layer, "weight")]
        for layer, arrays in zip(weighted_layers, layers, strict=True):
            names = [name for name in layer.state_dict() if name != "num_batches_tracked"]
            axes = {2: (1, 0), 4: (3, 2, 0, 1), 1: (0,)}
            tensors = [self.tensor(np.transpose(array, axes[array.ndim])) for array in arrays]
            layer.load_state_dict(dict(zip(names, tensors, strict=True)), strict=False)

    def with_output(self, model, function):
        class Wrapped(nn.Module):
            def __init__(self):
                super().__init__()
                self.model = model

            def forward(self, x):
                return function(self.model(x))

        return Wrapped()

    def frozen(self, model):
        return model.requires_grad_(False)

    def detached(self, x):
        return x.detach()

    def sum(self, x, axis):
        return x.sum(axis)

    def cast(self, x, dtype):
        return x.to(getattr(torch, dtype))

    def autocast(self):
        return torch.autocast("cpu", torch.bfloat16)


def compile_torch(function, how, fullgraph=True):
    torch.compiler.reset()
    torch._dynamo.config.recompile_limit = 64  # one per shape
    backend = {"traced": "eager", "full": "inductor"}[how]
    return torch.compile(function, fullgraph=fullgraph, dynamic=False, backend=backend)
