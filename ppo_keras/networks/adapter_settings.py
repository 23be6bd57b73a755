"""What adapters can be told (no TensorFlow here: the command line checks it before anything is loaded)."""

from numbers import Real

from ppo_keras.errors import check_count, require, shown

LAYERS = {"attention": ("query_key_value",), "all": ("query_key_value", "output_projection", "expand", "contract")}


def check_adapters(rank, alpha=None, layers="attention"):
    """Raises `InputError` where `add_adapters` would."""
    check_count("lora_rank", rank, example=16)
    if isinstance(layers, dict):
        known = layers and set(layers) <= set(LAYERS["all"])
        require(known, f"lora_layers={shown(layers)} names no ranks of {', '.join(LAYERS['all'])}. Use {' or '.join(LAYERS)}.")
        for name, own in layers.items():
            check_count(f"lora_layers[{name!r}]", own, example=16)
    else:
        require(layers in LAYERS, f"lora_layers={shown(layers)} is unknown. Use {' or '.join(LAYERS)}.")
    sound = alpha is None or (isinstance(alpha, Real) and not isinstance(alpha, bool) and 0 < alpha < float("inf"))
    require(sound, f"lora_alpha={shown(alpha)} is not positive. Use a number such as {2 * rank}.")
