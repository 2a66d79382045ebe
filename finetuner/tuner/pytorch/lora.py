"""LoRA by the library peft: which layers get it, what is trained, the hash of the base, and merged weights."""

import copy
import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ... import checks
from ..base.training.lora import LoRAWeights
from .heads import Head
from .models import plain_model, plain_name
from .poolers import Pooler
from .text import TextModel
from .vision import ImageModel

__all__ = ["add_lora", "base_digest", "lora_of", "merge_lora"]

MARK = "lora_of_finetuner"  # the attribute of a model that has its LoRAWeights
# The settings of peft that are supported. Others change the base, or the result is no sum that can be merged.
SUPPORTED = (
    *("r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "fan_in_fan_out", "bias", "use_rslora"),
    *("modules_to_save", "init_lora_weights", "layers_to_transform", "layers_pattern", "rank_pattern"),
    *("alpha_pattern", "use_dora", "lora_bias"),
)
# What says which layers are meant. It is replaced by their names.
CHOICE = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save")
IGNORED = ("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision")
# Layers that read the weights of the layers inside them, which thus never add LoRA.
OPAQUE = (nn.MultiheadAttention, nn.TransformerEncoderLayer)


def lora_of(model: Any) -> LoRAWeights | None:
    """What is trained of a model with LoRA; None for one without."""
    return getattr(plain_model(model), MARK, None) if isinstance(model, nn.Module) else None


def add_lora(model: nn.Module, lora: Any, seed: int) -> None:
    """Add LoRA to a model in place, see :meth:`~finetuner.tuner.base.training.framework.Framework.add_lora`.

    A model that has LoRA with the same settings is left as it is.
    """
    peft, model = import_peft(), plain_model(model)
    saved = lora.get("settings") if isinstance(lora, Mapping) else None
    asked = dict(lora["asked"]) if saved is not None else settings_of(config_of(peft, lora))
    present = lora_of(model)
    if present is not None:
        if dict(present.asked) != asked:
            raise ValueError(f"lora must be as in the model, which has LoRA with {dict(present.asked)}, got {asked}")
        return
    if any(isinstance(layer, peft.tuners.tuners_utils.BaseTunerLayer) for layer in model.modules()):
        raise ValueError("lora must be used with a model without layers of peft, and this one has some")
    config = config_of(peft, asked if saved is None else saved)
    names = target_names(peft, model, config)
    whole = layers_to_train(model, config.modules_to_save or ())
    trained = [p for layer in new_layers(model).values() for p in layer.parameters() if p.requires_grad]
    settings = {**settings_of(config), **dict.fromkeys(CHOICE), "target_modules": names}
    settings["modules_to_save"] = settings_of(config)["modules_to_save"]
    exact = config_of(peft, {**settings, "modules_to_save": None, "target_modules": pattern_of(names)})
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        peft.inject_adapter_in_model(exact, model)
    for layer in model.modules():
        if isinstance(layer, peft.tuners.lora.LoraLayer):
            layer.train(layer.get_base_layer().training)
    for p in (*(p for layer in whole for p in layer.parameters()), *trained):
        p.requires_grad_(True)
    kept = frozenset(kept_names(model))
    setattr(model, MARK, LoRAWeights(kept, asked, settings, describe(model, config, names)))


# Settings -------------------------------------------------------------------------------------------------------


def import_peft() -> Any:
    """The library; raise ``ImportError`` that says how to install it if it is missing."""
    try:
        import peft
    except ModuleNotFoundError as error:
        if error.name != "peft":
            raise
        raise ImportError('lora needs peft: pip install "finetuner[lora]"') from error
    return peft


def config_of(peft: Any, lora: Any) -> Any:
    """The ``LoraConfig`` of a rank, a mapping of its arguments, or itself.

    Raises:
        ValueError: If an argument is unknown, not supported here, or out of its range.
        TypeError: If it is of another kind.
    """
    if isinstance(lora, Mapping):
        known = {one.name for one in dataclasses.fields(peft.LoraConfig)}
        for name in lora:
            if name not in known:
                raise ValueError(
                    f"lora must have arguments of peft.LoraConfig, got {name!r}; "
                    f"{checks.closest_match(name, SUPPORTED)}"
                )
        try:
            config = peft.LoraConfig(**lora)
        except (TypeError, ValueError) as error:
            raise ValueError(f"lora must have arguments of peft.LoraConfig: {error}") from None
    elif isinstance(lora, peft.LoraConfig):
        config = copy.deepcopy(lora)
    elif isinstance(lora, int) and not isinstance(lora, bool):
        rank = checks.integer("lora", lora, 1)
        config = peft.LoraConfig(r=rank, lora_alpha=2 * rank)
    else:
        raise TypeError(f"lora must be a rank, a mapping of arguments or a peft.LoraConfig, got {lora!r:.80}")
    checks.integer("r of lora", config.r, 1)
    checks.above("lora_alpha", config.lora_alpha, 0)
    default = peft.LoraConfig()
    for one in dataclasses.fields(config):
        if one.name not in (*SUPPORTED, *IGNORED) and getattr(config, one.name) != getattr(default, one.name):
            raise ValueError(f"{one.name} of LoraConfig is not supported, got {getattr(config, one.name)!r:.80}")
    if config.init_lora_weights not in (True, "gaussian"):
        raise ValueError(
            "init_lora_weights must be True or 'gaussian', with which LoRA begins as zero and leaves the base as it "
            f"is, got {config.init_lora_weights!r}"
        )
    return config


def settings_of(config: Any) -> dict[str, Any]:
    """The settings of a ``LoraConfig``, as JSON can hold them."""
    values = {name: getattr(config, name) for name in SUPPORTED}
    return {name: sorted(value) if isinstance(value, set | tuple) else value for name, value in values.items()}


# Layers ---------------------------------------------------------------------------------------------------------


def backbone_of(model: nn.Module) -> tuple[str, nn.Module]:
    """The part of a model that gets LoRA: without heads and poolers of this library. And its name, with a dot."""
    prefix = ""
    while True:
        if isinstance(model, nn.Sequential) and len(model) == 2 and isinstance(model[1], Head):
            name, model = next(iter(model.named_children()))
        elif isinstance(model, TextModel):
            name, model = "transformer", model.transformer
        elif isinstance(model, ImageModel):
            name, model = "model", model.model
        else:
            return prefix, model
        prefix = f"{prefix}{name}."


def target_names(peft: Any, model: nn.Module, config: Any) -> list[str]:
    """The names of the layers that get LoRA.

    Raises:
        ValueError: If there are none, or one of them is inside a layer that would ignore it.
    """
    prefix, backbone = backbone_of(model)
    opaque = tuple(f"{name}." for name, layer in model.named_modules() if isinstance(layer, OPAQUE))
    linear = [
        prefix + name
        for name, layer in backbone.named_modules()
        if name and isinstance(layer, nn.Linear) and not f"{prefix}{name}.".startswith(opaque)
    ]
    if config.target_modules is None:
        kind, place = architecture(backbone)
        known = peft.utils.constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(kind)
        if known is None:
            return chosen(peft, linear, config, pattern_of(linear) if linear else "")
        prefix, linear = prefix + place, []
        config = copy.copy(config)
        config.target_modules = set(known)
    if config.target_modules == "all-linear":
        return chosen(peft, linear, config, pattern_of(linear) if linear else "")
    inner = [name for name, _ in model.named_modules() if name.startswith(prefix) and name != prefix.rstrip(".")]
    names = chosen(peft, [name for name in inner if name], config, config.target_modules)
    for name in names:
        if f"{name}.".startswith(opaque):
            raise ValueError(
                f"target_modules must name layers that are called, and {name} is in a layer of torch.nn that reads its "
                "weights, so that LoRA would be left out"
            )
    return names


def chosen(peft: Any, names: list[str], config: Any, targets: Any) -> list[str]:
    """The names that the settings choose, by the rule of peft."""
    config = copy.copy(config)
    config.target_modules = targets
    found = [name for name in names if peft.tuners.tuners_utils.check_target_module_exists(config, name)]
    if not found:
        raise ValueError(
            "lora must have target_modules that are layers of the model, got "
            f"{targets or 'none'!r} and none of {checks.preview(names) or 'no linear layers'}"
        )
    return found


def architecture(model: nn.Module) -> tuple[str | None, str]:
    """The name of the architecture of the first model of transformers in a model, and its place, with a dot."""
    for name, layer in model.named_modules():
        kind = getattr(getattr(layer, "config", None), "model_type", None)
        if isinstance(kind, str):
            return kind, f"{name}." if name else ""
    return None, ""


def pattern_of(names: list[str]) -> str:
    """The regular expression of exactly these names."""
    return "|".join(map(re.escape, names))


def new_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The heads and poolers of this library, which a base does not have, by name."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, Head | Pooler)}


def layers_to_train(model: nn.Module, names: Any) -> list[nn.Module]:
    """The layers that are to be trained as a whole.

    Raises:
        ValueError: If there is no layer of a name.
    """
    found = []
    for name in [names] if isinstance(names, str) else names:
        layers = [layer for key, layer in model.named_modules() if key == name or key.endswith(f".{name}")]
        if not layers:
            raise ValueError(f"modules_to_save must name layers of the model, got {name!r}")
        found += layers
    return found


def kept_names(model: nn.Module) -> Iterator[str]:
    """The names of what is saved: trained weights, new layers, and buffers that a training may change."""
    norms = nn.modules.batchnorm._NormBase
    frozen = {
        f"{name}." if name else ""
        for name, layer in model.named_modules()
        if isinstance(layer, norms) and layer.weight is not None and not layer.weight.requires_grad
    }  # they keep their statistics
    new = tuple(f"{name}." for name in new_layers(model))
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for name, value in model.state_dict(keep_vars=True).items():
        changes = value.requires_grad if name in parameters else f"{name.rpartition('.')[0]}." not in frozen
        if changes or name.startswith(new):
            yield plain_name(name)


def describe(model: nn.Module, config: Any, names: list[str]) -> str:
    """What was chosen, in words."""
    last = list(dict.fromkeys(name.rpartition(".")[2] for name in names))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    which = checks.preview(last, 4) if not all(one.isdigit() for one in last) else "all linear"
    kind = "DoRA" if config.use_dora else "LoRA"
    return f"{kind} of rank {config.r} in {len(names)} layers ({which}), {trained:,} of {total:,} weights trained"


# The base -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def base_digest(model: nn.Module) -> str:
    """The SHA-256 of the names, types, shapes and bytes of all that is not trained."""
    model = plain_model(model)
    weights = lora_of(model)
    assert weights is not None
    tensors = {plain_name(name): value for name, value in model.state_dict().items()}
    base = {name.replace(".base_layer.", "."): v for name, v in tensors.items() if name not in weights.names}
    digest = hashlib.sha256()
    for name, value in sorted(base.items()):
        digest.update(repr((name, str(value.dtype), list(value.shape))).encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def merge_lora(model: nn.Module) -> nn.Module:
    """A copy of a model in which the layers with LoRA have their base's weight plus the product."""
    peft, merged = import_peft(), copy.deepcopy(plain_model(model))
    delattr(merged, MARK)
    for name, layer in list(merged.named_modules()):
        if isinstance(layer, peft.tuners.tuners_utils.BaseTunerLayer):
            layer.merge(safe_merge=True)
            parent, _, child = name.rpartition(".")
            setattr(merged.get_submodule(parent), child, layer.get_base_layer())
    return merged
