"""What the checks of several processes need of Paddle."""

import paddle
from paddle import nn

from finetuner.tuner.paddle import parallel, tile_reductions, tiles
from finetuner.tuner.paddle.engine import PaddleEngine
from finetuner.tuner.paddle.processes import AcrossProcesses, PaddleProcesses, join_processes

__all__ = ["gradients", "join_processes", "own_loop", "plant"]


def modules(tuner):
    return [one for one in (tuner.embed_model, tuner.loss) if isinstance(one, nn.Layer)]


def gradients(tuner):
    """The gradients of the weights of model and loss."""
    named = {f"{place} {name}": p for place, one in enumerate(modules(tuner)) for name, p in one.named_parameters()}
    return {name: p.grad.astype("float64").numpy() for name, p in named.items() if p.grad is not None}


def own_loop(tuner, processes, inputs, targets, own):
    """Value and gradients in a loop of the user's own."""
    model, loss = tuner.embed_model, tuner.loss
    x, targets = paddle.to_tensor(inputs), [paddle.to_tensor(target) for target in targets]
    if processes.count == 1:
        value = loss.on_batch(model(x), *targets)
        value.backward()
        return float(value.detach()), gradients(tuner)
    parallel_model, shared = paddle.DataParallel(model), AcrossProcesses(OnBatch(loss))
    # A process without items embeds one, and leaves it out, so that it takes part in what all do.
    embeddings = parallel_model(x[own]) if own.stop > own.start else parallel_model(x[:1])[:0]
    value = shared(embeddings, *(target[own] for target in targets))
    value.backward()
    return float(value.detach()), gradients(tuner)


class OnBatch(nn.Layer):
    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def forward(self, *tensors):
        return self.loss.on_batch(*tensors)


def plant(name):
    """Break one thing that several processes need."""
    if name == "scale":
        PaddleEngine.own_gradient = lambda self, gradient, own: gradient if gradient is None else gradient[own]
    elif name == "backward":
        tiles.TileReductions.backward = staticmethod(without_sum(tiles.TileReductions.backward))
    elif name == "forward":
        tile_reductions.TileReduction.merge = lambda self, processes: None
    elif name == "centres":
        PaddleEngine.merge = with_sum(PaddleEngine.merge)
    elif name == "model":
        parallel.Parallel.finish_step = lambda self: None


def with_sum(merge):
    def broken(self):
        merge(self)
        for p in self.loss.parameters() if isinstance(self.loss, nn.Layer) else ():
            if p.grad is not None:
                p.grad = p.grad * self.processes.count

    return broken


def without_sum(backward):
    def broken(ctx, *upstream):
        before = PaddleProcesses.add
        PaddleProcesses.add = lambda self, x: x
        try:
            return backward(ctx, *upstream)
        finally:
            PaddleProcesses.add = before

    return broken
