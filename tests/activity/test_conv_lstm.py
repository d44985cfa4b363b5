from __future__ import annotations

import torch

from proxylesskd.activity.conv_lstm import DeepConvLSTM


def test_the_last_state_of_the_second_layer_is_read() -> None:
    torch.manual_seed(0)
    net = DeepConvLSTM(3, 4, width=0.125).eval()
    windows = torch.randn(2, 3, 40)
    features = windows
    for layer in net.filters:
        features = layer[0](features).relu()  # type: ignore[index]
    assert features.shape == (2, 8, 40 - 16)
    cells = dict(net.cells.named_parameters())
    series = features.transpose(1, 2)
    for layer in range(2):
        h = c = torch.zeros(2, 16)
        heard = []
        for x in series.unbind(1):
            gates = x @ cells[f"weight_ih_l{layer}"].T + h @ cells[f"weight_hh_l{layer}"].T
            i, f, g, o = (gates + cells[f"bias_ih_l{layer}"] + cells[f"bias_hh_l{layer}"]).chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            heard.append(h)
        series = torch.stack(heard, dim=1)
    assert torch.allclose(net(windows), net.head(h), atol=1e-5)
    assert DeepConvLSTM(3, 4).cells.hidden_size == 128
