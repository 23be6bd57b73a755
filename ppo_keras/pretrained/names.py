"""What the weights of our Transformer are called in the checkpoints of each family, and how they lie there: to read them, and to write them."""

from typing import NamedTuple

import numpy as np


class Source(NamedTuple):
    """Where one of our weights lies in a checkpoint: in tensors, joined along their first axis, then turned.

    PyTorch's linear layers keep `(outputs, inputs)`, Keras's `(inputs, outputs)`.
    """

    names: tuple
    turned: bool = False
    added: float = 0.0  # Gemma's norms multiply by 1 + w
    by_head: bool = False  # queries, keys and values lie by head there: (head, 3, d); ours are (3, head, d)

    @property
    def plain(self):
        """Whether our weight is the tensor as it lies there, row by row."""
        return len(self.names) == 1 and not (self.turned or self.added or self.by_head)

    def ours(self, parts, heads):
        """Our weight, of the tensors of a checkpoint."""
        value = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if self.by_head:
            value = value.reshape(heads, 3, -1, *value.shape[1:]).swapaxes(0, 1).reshape(value.shape)
        if self.added:
            value = value + np.asarray(self.added, value.dtype)
        return value.T if self.turned else value

    def theirs(self, value, heads, rows):
        """The tensors of a checkpoint: the way back from our weight, turned already. `rows`: how many each of them has."""
        if self.added:
            value = value - np.asarray(self.added, value.dtype)
        if self.by_head:
            value = value.reshape(3, heads, -1, *value.shape[1:]).swapaxes(0, 1).reshape(value.shape)
        return np.split(value, np.cumsum(rows)[:-1])


def gpt2_names(form):
    """{our weight: `Source`} of a `Form`, with {} for the number of a layer."""
    layer = "transformer.h.{}."
    found = {"embedding/embeddings": Source(("transformer.wte.weight",)), "trunk/positions/embeddings": Source(("transformer.wpe.weight",))}
    found |= _normed({"attention_norm": f"{layer}ln_1", "mlp_norm": f"{layer}ln_2"}, "transformer.ln_f")
    linear = {"query_key_value": "attn.c_attn", "output_projection": "attn.c_proj", "expand": "mlp.c_fc", "contract": "mlp.c_proj"}
    for ours, theirs in linear.items():  # its Conv1D keeps (inputs, outputs), as Keras does
        found |= {f"trunk/block_{{}}/{ours}/{kind}": Source((f"{layer}{theirs}.{name}",)) for kind, name in (("kernel", "weight"), ("bias", "bias"))}
    return found | _head(form, "lm_head.weight")


def gpt_neox_names(form):
    """See `gpt2_names`."""
    layer, linear = "gpt_neox.layers.{}.", {"output_projection": "attention.dense", "expand": "mlp.dense_h_to_4h", "contract": "mlp.dense_4h_to_h"}
    found = {"embedding/embeddings": Source(("gpt_neox.embed_in.weight",))}
    found |= _normed({"attention_norm": f"{layer}input_layernorm", "mlp_norm": f"{layer}post_attention_layernorm"}, "gpt_neox.final_layer_norm")
    for ours, theirs in (linear | {"query_key_value": "attention.query_key_value"}).items():
        by_head = ours == "query_key_value"
        found[f"trunk/block_{{}}/{ours}/kernel"] = Source((f"{layer}{theirs}.weight",), turned=True, by_head=by_head)
        found[f"trunk/block_{{}}/{ours}/bias"] = Source((f"{layer}{theirs}.bias",), by_head=by_head)
    return found | _head(form, "embed_out.weight")


def llama_names(form, added=0.0):
    """See `gpt2_names`."""
    layer, block = "model.layers.{}.", "trunk/block_{}/"
    found = {"embedding/embeddings": Source(("model.embed_tokens.weight",)), "trunk/norm/scale": Source(("model.norm.weight",), added=added)}
    norms = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
    if form.sandwich:
        norms |= {"attended_norm": "post_attention_layernorm", "mlp_norm": "pre_feedforward_layernorm", "contracted_norm": "post_feedforward_layernorm"}
    if form.normalize_heads:
        norms |= {"query_norm": "self_attn.q_norm", "key_norm": "self_attn.k_norm"}
    found |= {f"{block}{ours}/scale": Source((f"{layer}{theirs}.weight",), added=added) for ours, theirs in norms.items()}
    linear = {
        "query_key_value": (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), form.query_key_value_bias),
        "output_projection": (("self_attn.o_proj",), form.output_bias),
        "expand": (("mlp.up_proj", "mlp.gate_proj"), form.mlp_bias),
        "contract": (("mlp.down_proj",), form.mlp_bias),
    }
    for ours, (theirs, biased) in linear.items():
        found[f"{block}{ours}/kernel"] = Source(tuple(f"{layer}{name}.weight" for name in theirs), turned=True)
        if biased:
            found[f"{block}{ours}/bias"] = Source(tuple(f"{layer}{name}.bias" for name in theirs))
    return found | _head(form, "lm_head.weight")


def _normed(norms, last):
    """The layer norms of the blocks, and the last one."""
    found = {}
    for ours, theirs in [*((f"block_{{}}/{ours}", theirs) for ours, theirs in norms.items()), ("norm", last)]:
        found |= {f"trunk/{ours}/gamma": Source((f"{theirs}.weight",)), f"trunk/{ours}/beta": Source((f"{theirs}.bias",))}
    return found


def _head(form, name):
    return {} if form.tied else {"embedding/reverse_embeddings": Source((name,), turned=True)}
