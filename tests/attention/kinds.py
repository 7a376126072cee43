"""Every kind of scores with every score norm, beside its reference."""

from dataclasses import dataclass, field

import numpy as np
import reference
import torch
from graph_zoo import ZERO_NODES, is_pair

from lipzoo.attention import (
    AdditiveScores,
    DotProductLipschitzNorm,
    DotProductScores,
    GATv2Scores,
    LipschitzNorm,
    as_structure,
    graph_attention,
)

HEADS, WIDTH = 2, 3
ALPHA = 0.7


@dataclass(frozen=True)
class Kind:
    """A way to score edges; ``norm`` holds the arguments of its score norm, if it has one."""

    scores: str
    norm: dict = field(default_factory=dict)
    with_own: bool = False

    def leaves(self, graph, name="", dtype=torch.float64, seed=1):
        """The tensors that are differentiated by, random, zero in the rows of ``ZERO_NODES``."""
        generator = torch.Generator().manual_seed(seed)
        num_src, num_dst = graph.num_src_nodes(), graph.num_dst_nodes()

        def random(rows):
            values = torch.randn(rows, HEADS, WIDTH, generator=generator, dtype=torch.float64)
            if rows > 1:
                values[ZERO_NODES.get(name, [])] = 0
            return values.to(dtype).requires_grad_()

        def vectors():
            values = torch.randn(1, HEADS, WIDTH, generator=generator, dtype=torch.float64)
            return values.to(dtype).requires_grad_()

        if self.scores == "additive":
            leaves = {"v": random(num_src), "attn_l": vectors(), "attn_r": vectors()}
            return leaves | ({"v_dst": random(num_dst)} if is_pair(graph) else {})
        if self.scores == "gatv2":
            return {"v": random(num_src), "t": random(num_dst), "attn": vectors()}
        return {"v": random(num_src), "k": random(num_src), "q": random(num_dst)}

    def build(self, leaves):
        """``(scores, score_norm)`` of the tensors in ``leaves``."""
        v = leaves["v"]
        if self.scores == "additive":
            v_dst = leaves.get("v_dst")
            scores = AdditiveScores(
                v, v_dst, leaves["attn_l"], leaves["attn_r"], with_own=self.with_own
            )
        elif self.scores == "gatv2":
            scores = GATv2Scores(v, leaves["t"], leaves["attn"])
        else:
            scores = DotProductScores(leaves["q"], leaves["k"], v)
        kind = DotProductLipschitzNorm if self.scores == "dot" else LipschitzNorm
        return scores, kind(**self.norm) if self.norm else None

    def attend(self, graph, leaves, backend):
        """``(scores, weights, output)`` by lipzoo."""
        seen = []
        structure = as_structure(graph)
        scores, norm = self.build(leaves)
        out, weights = graph_attention(
            structure,
            scores,
            score_norm=norm,
            score_hook=lambda e: seen.append(e) or e,
            backend=backend,
            need_weights=True,
        )
        return seen[0], weights, out

    def expect(self, graph, leaves):
        """``(scores, weights, output)`` by the reference."""
        src, dst = (ends.numpy().astype(int) for ends in graph.edges(order="eid"))
        num_dst = graph.num_dst_nodes()
        array = {key: leaf.detach().double().numpy() for key, leaf in leaves.items()}
        v = array["v"]
        if self.scores == "additive":
            v_dst = array.get("v_dst", v[:num_dst])
            e = reference.additive_scores(
                *(src, dst, v, v_dst, array["attn_l"], array["attn_r"]),
                **self.norm,
                with_own=self.with_own,
            )
        elif self.scores == "gatv2":
            e = reference.gatv2_scores(src, dst, v, array["t"], array["attn"], **self.norm)
        else:
            e = reference.dot_scores(src, dst, array["q"], array["k"], v, **self.norm)
        weights = reference.softmax(dst, num_dst, e)
        return e, weights, reference.aggregate(src, dst, num_dst, weights, np.asarray(v))


KINDS = {
    "gat": Kind("additive"),
    "gat_lip": Kind("additive", {"alpha": ALPHA}),
    "gat_lip_all_heads": Kind("additive", {"alpha": ALPHA, "per_head": False}),
    "gat_lip_own": Kind("additive", {"alpha": ALPHA}, with_own=True),
    "gatv2": Kind("gatv2"),
    "gatv2_lip": Kind("gatv2", {"alpha": ALPHA}),
    "gatv2_lip_all_heads": Kind("gatv2", {"alpha": ALPHA, "per_head": False}),
    "dot": Kind("dot"),
    "dot_lip": Kind("dot", {"scope": "node"}),
    "dot_lip_graph": Kind("dot", {"scope": "graph"}),
}
NORMED = [name for name, kind in KINDS.items() if kind.norm]
