"""Deep models from their equations, with dense matrices in float64 and NumPy: what forward passes
are held against. ``adjacency[i, j]`` is how often j→i occurs. Shares no code with the models."""

import numpy as np


def array(tensor):
    return tensor.detach().double().numpy()


def linear(module, x):
    out = x @ array(module.weight).T
    return out if module.bias is None else out + array(module.bias)


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


ACTIVATIONS = {
    "elu": elu,
    "relu": lambda x: np.maximum(x, 0),
    "identity": lambda x: x,
}


def leaky(x, slope=0.2):
    return np.where(x > 0, x, slope * x)


def lengths(x):
    return np.sqrt((x * x).sum(-1))


def divided(over, under):
    return np.divide(over, under, out=np.zeros_like(over), where=under > 0)


def softmax_rows(adjacency, scores):
    """Each edge counts as often as it occurs; a row without edges is zero."""
    top = np.where(adjacency > 0, scores, -np.inf).max(1, keepdims=True, initial=-np.inf)
    powers = adjacency * np.exp(
        np.where(adjacency > 0, scores - np.where(top > -np.inf, top, 0), 0)
    )
    return divided(powers, powers.sum(1, keepdims=True) + 0 * powers)


def attention_matrix(kind, conv, head, adjacency, x, sees_itself):
    """(N, N) of one head, and its values (N, D)."""
    width = conv.out_feats
    rows = slice(head * width, (head + 1) * width)
    near = adjacency > 0

    def longest_near(size):
        return np.where(near, size[None, :], 0).max(1, initial=0)

    def project(module):
        return linear(module, x)[:, rows]

    norm = conv.score_norm
    if kind == "gt":
        query, key, value = map(project, (conv.fc_query, conv.fc_key, conv.fc_value))
        scores = query @ key.T / width**0.5
        if norm is not None:
            u, v, w = lengths(query), longest_near(lengths(key)), longest_near(lengths(value))
            largest = np.maximum(np.maximum(u * v, u * w), v * w)
            scores = divided(scores, largest[:, None] + 0 * scores)
        return softmax_rows(adjacency, scores), value
    if kind == "gatv2":
        value, target = project(conv.fc_src), project(conv.fc_dst)
        attn = array(conv.attn)[0, head]
        scores = leaky(value[None, :, :] + target[:, None, :]) @ attn
        vectors, longest = np.sqrt(2) * lengths(attn), longest_near(lengths(value))
        longest = np.maximum(longest, lengths(target))
    else:
        value = project(conv.fc)
        left, right = array(conv.attn_l)[0, head], array(conv.attn_r)[0, head]
        scores = leaky((value @ left)[None, :] + (value @ right)[:, None])
        vectors, longest = lengths(np.concatenate([left, right])), longest_near(lengths(value))
        if sees_itself:
            longest = np.maximum(longest, lengths(value))
    if norm is not None:
        root = np.sqrt(longest[:, None] ** 2 + lengths(value)[None, :] ** 2)
        scores = norm.alpha * divided(scores, vectors * root)
    return softmax_rows(adjacency, scores), value


def layer(kind, conv, adjacency, x, is_apart=False):
    heads = [
        attention_matrix(kind, conv, head, adjacency, x, is_apart) for head in range(conv.num_heads)
    ]
    out = np.concatenate([weights @ value for weights, value in heads], 1)
    if getattr(conv, "bias", None) is not None:
        out = out + array(conv.bias)
    return out


def feature_norm(module, x):
    if type(module).__name__ == "LayerNorm":
        centred = x - x.mean(1, keepdims=True)
        unit = centred / np.sqrt((centred**2).mean(1, keepdims=True) + module.norm.eps)
    else:
        own = module.norm
        unit = (x - array(own.running_mean)) / np.sqrt(array(own.running_var) + own.eps)
    return unit * array(module.norm.weight) + array(module.norm.bias)


def states(kind, model, adjacency, x, activation="elu", input_activation=None, is_apart=False):
    """``[h_0, …, h_L]`` with ``residual="linear"`` or none: ego and neighbours are one matrix
    product each."""
    adjacency = adjacency.copy().astype(float)
    if is_apart:
        np.fill_diagonal(adjacency, 0)
    else:
        np.fill_diagonal(adjacency, np.maximum(np.diag(adjacency), 1))
    act = ACTIVATIONS[activation]
    found = [ACTIVATIONS[input_activation or activation](linear(model.input, x))]
    for index, conv in enumerate(model.layers):
        out = layer(kind, conv, adjacency, found[-1], is_apart)
        if conv.res_fc is not None:
            out = out + linear(conv.res_fc, found[-1])
        if len(model.norms):
            out = feature_norm(model.norms[index], out)
        found.append(act(out))
    return found


def logits(kind, model, adjacency, x, **options):
    return linear(model.head, states(kind, model, adjacency, x, **options)[-1])
