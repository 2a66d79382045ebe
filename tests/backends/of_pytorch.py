import torch

from . import Backend


class Pytorch(Backend):
    name, framework = "pytorch", "torch"

    def tensor(self, x, dtype=None):
        return None if x is None else torch.tensor(x, dtype=dtype and getattr(torch, dtype))

    def numpy(self, x):
        return x.detach().cpu().numpy()

    def value_and_grads(self, function, arrays, constants):
        inputs = [self.tensor(x, "float32") for x in arrays]
        for x in inputs:
            if x is not None:
                x.requires_grad_(True)
        value = function(*inputs, *map(self.tensor, constants))
        weight = torch.arange(1.0, 1 + value.numel()).reshape(value.shape)
        (weight * value).sum().backward()
        return self.numpy(value), [None if x is None else self.numpy(x.grad) for x in inputs]

    def compiled(self, function, how):
        torch.compiler.reset()
        torch._dynamo.config.recompile_limit = 64  # one a shape
        return torch.compile(
            function, fullgraph=True, dynamic=False, backend={"traced": "eager", "full": "inductor"}[how]
        )

    def mlp(self, *widths, seed=0, dropout=0.0):
        torch.manual_seed(seed)
        layers = []
        for i in range(len(widths) - 1):
            rest = [torch.nn.ReLU(), torch.nn.Dropout(dropout)] if i + 2 < len(widths) else []
            layers += [torch.nn.Linear(widths[i], widths[i + 1]), *rest]
        return torch.nn.Sequential(*layers)

    def with_output(self, model, function):
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
        return x.to(getattr(torch, dtype))

    def autocast(self):
        return torch.autocast("cpu", torch.bfloat16)
