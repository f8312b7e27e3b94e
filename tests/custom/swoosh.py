"""What edgec asks about the operators of swoosh.toml."""
import numpy as np


def swoosh_rule(inputs, attributes):
    x, bias = inputs
    if bias.shape != x.shape[-1:]:
        raise ValueError(f"a bias of {bias.shape} for rows of {x.shape[-1]}")
    params = {"rows": int(np.prod(x.shape[:-1])), "columns": x.shape[-1], "slopes": attributes["slopes"]}
    return {"outputs": [(x.dtype, x.shape)], "params": params}


def swoosh_reference(inputs, attributes):
    x, bias = inputs
    below, above = (np.float32(s) for s in attributes["slopes"])
    z = x + bias
    return [np.where(z < 0, below * z, above * z)]


def median_rule(inputs, attributes):
    (x,) = inputs
    rows, columns = int(np.prod(x.shape[:-1])), x.shape[-1]
    return {"outputs": [(x.dtype, x.shape[:-1] + (1,))], "params": {"rows": rows, "columns": columns}, "scratch": 4 * columns}


def median_reference(inputs, attributes):
    return [np.sort(inputs[0], axis=-1)[..., inputs[0].shape[-1] // 2, None]]


def step_rule(inputs, attributes):
    return {"outputs": [("int8", inputs[0].shape)]}  # its one parameter is the attribute `n`
