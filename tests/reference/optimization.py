"""Reference of the training: schedules, optimizers and a small network in float64, written out in loops."""

import math

import numpy as np


def factor(name, step, steps, warmup, **options):
    """The factor of the learning rate at ``step``, from 0."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done, left = step - warmup, steps - warmup
    if name == "constant":
        return 1.0
    if name == "linear":
        return (left - done) / left
    if name == "cosine":
        return (1 + math.cos(math.pi * done / left)) / 2
    if name == "cosine_with_restarts":
        length = left / options["cycles"]
        return (1 + math.cos(math.pi * (done % length) / length)) / 2
    if name == "polynomial":
        return ((left - done) / left) ** options["power"]
    decaying = options["decay"] * left
    return min(1.0, (left - done) / decaying)


class Network:
    """Two dense layers with ReLU between them, and the mean squared error."""

    def __init__(self, layers):
        self.weights = [np.array(weight, np.float64) for layer in layers for weight in layer]

    def outputs(self, x, weights=None):
        first, first_bias, second, second_bias = self.weights if weights is None else weights
        return np.maximum(x @ first + first_bias, 0) @ second + second_bias

    def loss_and_gradients(self, x, targets):
        first, first_bias, second, _ = self.weights
        hidden = x @ first + first_bias
        active = np.maximum(hidden, 0)
        error = self.outputs(x) - targets
        by_output = 2 * error / error.size
        by_hidden = (by_output @ second.T) * (hidden > 0)
        return (error**2).mean(), [x.T @ by_hidden, by_hidden.sum(0), active.T @ by_output, by_output.sum(0)]


class Training:
    """Steps of SGD, AdamW, Adamax, RMSprop or Adagrad with all that surrounds them.

    Args:
        network: The network.
        rates: The learning rate of each weight.
        decays: The weight decay of each weight.
        clip_norm: The largest norm of all gradients; None for no limit.
        ema_decay: Of the average of the weights; None for none.
    """

    def __init__(self, network, optimizer, rates, decays, clip_norm, ema_decay, epsilon):
        self.network, self.optimizer, self.rates, self.decays = network, optimizer, rates, decays
        self.clip_norm, self.ema_decay, self.epsilon = clip_norm, ema_decay, epsilon
        self.moments = [[np.zeros_like(w), np.zeros_like(w)] for w in network.weights]
        self.average = [w.copy() for w in network.weights]
        self.count = 0
        self.norms = []

    def step(self, batches, scale):
        """One step on the mean gradient of some batches, with rates times ``scale``. Returns the losses."""
        losses, total = [], [np.zeros_like(w) for w in self.network.weights]
        for x, targets in batches:
            loss, gradients = self.network.loss_and_gradients(x, targets)
            losses.append(loss)
            total = [sum_ + gradient / len(batches) for sum_, gradient in zip(total, gradients, strict=True)]
        norm = math.sqrt(sum(float(value) ** 2 for gradient in total for value in gradient.flat))
        self.norms.append(norm)
        if self.clip_norm is not None and norm > self.clip_norm:
            total = [gradient * self.clip_norm / norm for gradient in total]
        self.count += 1
        for i, gradient in enumerate(total):
            rate, weight = self.rates[i] * scale, self.network.weights[i]
            weight *= 1 - rate * self.decays[i]
            if self.optimizer == "SGD":
                weight -= rate * gradient
                continue
            first, second = self.moments[i]
            if self.optimizer == "Adagrad":
                second += gradient**2
                weight -= rate * gradient / (np.sqrt(second) + self.epsilon)
                continue
            if self.optimizer == "RMSprop":
                second += 0.01 * (gradient**2 - second)
                weight -= rate * gradient / (np.sqrt(second) + self.epsilon)
                continue
            first += 0.1 * (gradient - first)
            if self.optimizer == "Adamax":
                second[...] = np.maximum(0.999 * second, np.abs(gradient) + self.epsilon)
                weight -= rate * first / (1 - 0.9**self.count) / second
                continue
            second += 0.001 * (gradient**2 - second)
            corrected = second / (1 - 0.999**self.count)
            weight -= rate * first / (1 - 0.9**self.count) / (np.sqrt(corrected) + self.epsilon)
        if self.ema_decay is not None:
            for average, weight in zip(self.average, self.network.weights, strict=True):
                average *= self.ema_decay
                average += (1 - self.ema_decay) * weight
        return losses
