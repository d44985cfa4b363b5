from __future__ import annotations

import torch
import torch.nn.functional as F

from proxylesskd.models.mixer import PatchMixer


def test_layers_mix_patches_then_features() -> None:
    torch.manual_seed(0)
    net = PatchMixer(2, 12, dim=6, layers=2, patch=4).eval()
    window = torch.randn(1, 2, 12)
    weight, bias = net.patches.weight, net.patches.bias
    patches = torch.stack([(weight * window[0, :, k : k + 4]).sum(dim=(1, 2)) + bias for k in (0, 4, 8)])  # [N, D]
    for layer in net.layers:
        state = layer.state_dict()
        normed = F.layer_norm(patches, (6,), state["norms.0.weight"], state["norms.0.bias"])
        for d in range(6):  # over the patches of each feature
            hidden = F.gelu(state["over_patches.0.weight"] @ normed[:, d] + state["over_patches.0.bias"])
            change = state["over_patches.3.weight"] @ hidden + state["over_patches.3.bias"]
            patches = patches.clone()
            patches[:, d] = patches[:, d] + change
        normed = F.layer_norm(patches, (6,), state["norms.1.weight"], state["norms.1.bias"])
        for n in range(3):  # over the features of each patch
            hidden = F.gelu(state["over_features.0.weight"] @ normed[n] + state["over_features.0.bias"])
            patches = patches.clone()
            patches[n] = patches[n] + state["over_features.3.weight"] @ hidden + state["over_features.3.bias"]
    wanted = F.layer_norm(patches, (6,)).mean(dim=0)
    assert torch.allclose(net(window)[0], wanted, atol=1e-5)


def test_hidden_layers_are_as_wide_as_the_paper_says() -> None:
    net = PatchMixer(3, 32, dim=8, layers=1, patch=16)
    layer = net.layers[0]
    assert layer.over_patches[0].weight.shape == (4, 2)  # type: ignore[index,union-attr]
    assert layer.over_features[0].weight.shape == (32, 8)  # type: ignore[index,union-attr]
