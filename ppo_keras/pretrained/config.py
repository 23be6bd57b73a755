"""What a pretrained language model can be told (no TensorFlow here: the command line reads it to answer --help)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Optional

from ppo_keras.config import check_kinds, optional, require, switch
from ppo_keras.errors import check_count
from ppo_keras.networks.adapter_settings import check_adapters

WEIGHTS = ("float32", "bfloat16")
CRITICS = ("shared", "detached", "adapters")


@dataclass(frozen=True)
class PretrainedConfig:
    """A language model that others trained, in place of one from nothing; what is learned are its adapters (Hu et al. 2022)."""

    pretrained: Optional[str] = None  # a checkpoint: smollm2, a folder in Hugging Face's format, a .gguf file, or a name on the hub
    lora_rank: int = 16  # of the adapters; 0 trains every weight
    lora_alpha: Optional[float] = optional(None)  # alpha / rank multiplies an adapter; none: twice the rank
    lora_layers: str = "attention"  # which layers have adapters: attention or all
    adapters: Optional[str] = None  # a folder in PEFT's format, whose adapters are trained further; rank, alpha and layers are theirs
    critic: str = "shared"  # shared: a head on the policy's hidden states; detached: its gradient stops there; adapters: it has adapters of its own
    weights: str = "float32"  # of the frozen weights, in which the trunk computes too: float32 or bfloat16
    chat: bool = switch(False)  # a prompt becomes the user's turn of the checkpoint's chat template
    prompt_format: str = "{}"  # what is written around a prompt, in the place of {}: "Translate into French: {}"

    def __post_init__(self):
        check_kinds(self)
        require(self.pretrained != "", "--pretrained names no checkpoint. Name one, such as smollm2, or leave it out.")
        require(self.adapters != "", "--adapters names no folder. Name one that holds adapter_config.json, or leave it out.")
        check_loading(self.lora_rank, self.lora_alpha, self.lora_layers, self.weights, self.adapters, self.critic)
        require(
            self.prompt_format.count("{}") == 1, f"prompt_format={self.prompt_format!r} has no single {{}} for the prompt. Write one such as 'Question: {{}}'."
        )
        if self.pretrained is None:
            for name, default in ((field.name, field.default) for field in fields(self)):
                require(getattr(self, name) == default, f"{name} is of a checkpoint. Name one, such as --pretrained smollm2, or leave it out.")


def check_loading(lora_rank, lora_alpha, lora_layers, weights, adapters=None, critic="shared"):
    """Raises `InputError` where a checkpoint cannot be loaded so."""
    for name, given in (("lora_rank", lora_rank), ("lora_alpha", lora_alpha), ("lora_layers", lora_layers)):
        default = getattr(PretrainedConfig, name)
        require(adapters is None or given == default, f"{name}={given!r} has no use: adapters={str(adapters)!r} bring their own. Leave one of them out.")
    check_count("lora_rank", lora_rank, least=0, example=16)
    if lora_rank:
        check_adapters(lora_rank, lora_alpha, lora_layers)
    for name, given in (("lora_alpha", lora_alpha), ("lora_layers", lora_layers)):
        default = getattr(PretrainedConfig, name)
        require(lora_rank or given == default, f"{name}={given!r} is of adapters, but lora_rank=0 asks for none. Leave it out.")
    require(critic in CRITICS, f"critic={critic!r} is unknown. Use {', '.join(CRITICS[:-1])} or {CRITICS[-1]}.")
    require(lora_rank or critic != "adapters", "critic='adapters' gives the critic adapters of its own, but lora_rank=0 asks for none. Use shared or detached.")
    require(weights in WEIGHTS, f"weights={weights!r} is unknown. Use {' or '.join(WEIGHTS)}.")
    require(lora_rank or weights == "float32", "weights='bfloat16' cannot be trained whole. Use lora_rank=16, or float32.")
