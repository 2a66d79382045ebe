"""How the tests speak to each framework: numpy in, numpy out."""

import importlib

import numpy as np


class Backend:
    name: str  # of its subpackage
    framework: str  # what that imports
    engines: frozenset[str] = frozenset()  # and what that may import in turn

    def __init__(self):
        for file in ("losses", "miner", "poolers", "functional"):
            setattr(self, file, importlib.import_module(f"finetuner.tuner.{self.name}.{file}"))
        self.Tuner = importlib.import_module(f"finetuner.tuner.{self.name}").Tuner

    def loss(self, name, miner=None, **params):
        """The loss ``name``; a miner is given by its parameters."""
        cls = getattr(self.losses, name)
        if miner is not None:
            kind = {"triplets": "TripletEasyHardMiner", "pairs": "SiameseEasyHardMiner"}[cls.tuples]
            params["miner"] = getattr(self.miner, kind)(**miner)
        return cls(**params)

    def tensor(self, x, dtype=None):
        """``x`` as a tensor, None as it is."""
        raise NotImplementedError

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

    def with_output(self, model, function):
        """A model that returns ``function`` of what ``model`` does."""
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


class Pytorch(Backend):
    name, framework = "pytorch", "torch"

    def tensor(self, x, dtype=None):
        import torch

        return None if x is None else torch.tensor(x, dtype=dtype and getattr(torch, dtype))

    def numpy(self, x):
        return x.detach().cpu().numpy()

    def value_and_grads(self, function, arrays, constants):
        import torch

        inputs = [self.tensor(x, "float32") for x in arrays]
        for x in inputs:
            if x is not None:
                x.requires_grad_(True)
        value = function(*inputs, *map(self.tensor, constants))
        weight = torch.arange(1.0, 1 + value.numel()).reshape(value.shape)
        (weight * value).sum().backward()
        return self.numpy(value), [None if x is None else self.numpy(x.grad) for x in inputs]

    def compiled(self, function, how):
        import torch

        torch.compiler.reset()
        torch._dynamo.config.recompile_limit = 64  # one a shape
        return torch.compile(
            function, fullgraph=True, dynamic=False, backend={"traced": "eager", "full": "inductor"}[how]
        )

    def mlp(self, *widths, seed=0, dropout=0.0):
        import torch

        torch.manual_seed(seed)
        layers = []
        for i in range(len(widths) - 1):
            rest = [torch.nn.ReLU(), torch.nn.Dropout(dropout)] if i + 2 < len(widths) else []
            layers += [torch.nn.Linear(widths[i], widths[i + 1]), *rest]
        return torch.nn.Sequential(*layers)

    def with_output(self, model, function):
        import torch

        class Wrapped(torch.nn.Module):
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
        import torch

        return x.to(getattr(torch, dtype))

    def autocast(self):
        import torch

        return torch.autocast("cpu", torch.bfloat16)


BACKENDS = {"pytorch": Pytorch}


def weighted(value):
    """What :meth:`Backend.value_and_grads` differentiates, of the reference's value."""
    value = np.asarray(value)
    return (np.arange(1.0, 1 + value.size).reshape(value.shape) * value).sum()
