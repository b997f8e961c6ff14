"""The network is the paper's: its parameters, its cost, its blocks."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diffmath.ddpm import UNet


@pytest.fixture(scope="module")
def compact():
    torch.manual_seed(0)
    net = UNet.compact().eval()
    torch.nn.init.normal_(net.conv_out.weight, std=0.1)  # which starts at zero
    return net


def n_parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_parameter_counts():
    assert n_parameters(UNet.paper()) == 12_980_033
    assert n_parameters(UNet.compact()) == 3_254_177
    assert len(list(UNet.compact().buffers())) == 0  # nothing that an average of the weights could spoil


@pytest.mark.parametrize(("width", "groups"), [(2, 2), (16, 16), (32, 32), (48, 24), (64, 32), (66, 22), (74, 2)])
def test_groups(width, groups):
    """32 where the width allows, else its largest divisor below."""
    found = {m.num_groups for m in UNet(width).modules() if isinstance(m, torch.nn.GroupNorm)}
    assert found == {groups}
    assert UNet(width)(torch.randn(2, 1, 8, 12), torch.tensor([1, 2])).shape == (2, 1, 8, 12)


def test_cost():
    """3.23 GFLOP for one image, attention included, which is counted in its math form only."""
    net = UNet.paper().eval()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 1, 32, 32), torch.ones(1, dtype=torch.int64))
    assert counter.get_total_flops() / 1e9 == pytest.approx(3.23, abs=0.005)


def test_block_table(compact):
    """The channels and sizes of the paper's block table, seen from inside; concatenations take residual outputs."""
    seen = {}

    def look(name):
        return lambda module, args, output: seen.__setitem__(name, (args[0], output))

    handles = [m.register_forward_hook(look(name)) for name, m in compact.named_children()]
    with torch.inference_mode():
        compact(torch.randn(2, 1, 32, 32), torch.tensor([1, 500]))
    for handle in handles:
        handle.remove()
    c = 32
    expected = dict.fromkeys(("conv_in", "res1", "res2", "res13", "res14", "up1"), (c, 32))
    expected |= dict.fromkeys(
        ("down1", "res3", "att3", "res4", "att4", "res11", "att11", "res12", "att12"), (2 * c, 16)
    )
    expected |= dict.fromkeys(("down2", "res5", "res6", "res7", "att7", "res8", "att8", "res9", "res10"), (4 * c, 8))
    expected |= {"up2": (2 * c, 16), "conv_out": (1, 32)}
    for name, (channels, size) in expected.items():
        assert seen[name][1].shape == (2, channels, size, size), name
    for block, mirror in (("res9", "res6"), ("res10", "res5"), ("res11", "res4"), ("res12", "res3"), ("res13", "res2")):
        joined = seen[block][0]
        torch.testing.assert_close(joined[:, joined.shape[1] - seen[mirror][1].shape[1] :], seen[mirror][1])
    torch.testing.assert_close(seen["norm_out"][0][:, c:], seen["conv_in"][1])


def test_residual_block(compact):
    """The skip convolution starts from the normalised input, and the time adds one number for each channel."""
    block = compact.res1
    x, emb = torch.randn(2, 32, 8, 8), torch.randn(2, 128)
    with torch.inference_mode():
        h = F.group_norm(x, 32, block.norm1.weight, block.norm1.bias)
        time = block.linear(F.group_norm(emb, 32, block.norm_embedding.weight, block.norm_embedding.bias))
        y = block.conv1(F.silu(h)) + time.reshape(2, 32, 1, 1)
        y = block.conv2(F.silu(F.group_norm(y, 32, block.norm2.weight, block.norm2.bias)))
        torch.testing.assert_close(block(x, emb), y + block.skip(h))


def test_attention_block(compact):
    """One head over all pixels, in the textbook's form, added to the normalised input."""
    block = compact.att3
    x = torch.randn(2, 64, 4, 4)
    with torch.inference_mode():
        h = F.group_norm(x, 32, block.norm.weight, block.norm.bias)
        pixels = h.flatten(2).mT
        q, k, v = block.query_key_value(pixels).split(64, dim=-1)
        attention = torch.softmax(q @ k.mT / 8, dim=-1) @ v
        expected = h + block.project(attention).mT.reshape(2, 64, 4, 4)
        torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def test_time_matters_and_samples_do_not_mix(compact):
    x = torch.randn(1, 1, 32, 32).expand(3, 1, 32, 32)
    with torch.inference_mode():
        out = compact(x, torch.tensor([1, 250, 1]))
        assert (out[0] - out[1]).abs().max() > 1e-3
        torch.testing.assert_close(out[0], out[2])
        torch.testing.assert_close(compact(x[1:2], torch.tensor([250]))[0], out[1], rtol=1e-4, atol=1e-5)


def test_starts_by_predicting_zero():
    out = UNet(width=32)(torch.randn(2, 1, 8, 8), torch.tensor([1, 2]))
    assert (out == 0).all()


def test_bad_arguments(compact):
    with pytest.raises(ValueError, match="width must be even; it is 33"):
        UNet(width=33)
    for size in ((32, 30), (32, 32, 32)):
        with pytest.raises(ValueError, match="image_size must be a multiple of 4, or two of them; it is"):
            UNet(image_size=size)
    with pytest.raises(ValueError, match="multiple of 4, or two of them; it is 30"):
        UNet(image_size=30)
    with pytest.raises(ValueError, match="at least 1; it is 0"):
        UNet(channels=0)
    with pytest.raises(TypeError, match="width must be an integer; it is 64.0"):
        UNet(width=64.0)
    assert json.dumps(UNet(width=np.int64(32)).config) == json.dumps(UNet(width=32).config)
    with pytest.raises(ValueError, match=r"shape is \(1, 32, 32\)"):
        compact(torch.zeros(1, 32, 32), torch.ones(1))
    with pytest.raises(ValueError, match="multiples of 4"):
        compact(torch.zeros(1, 1, 30, 30), torch.ones(1))
    with pytest.raises(ValueError, match="one entry for each of the 2 images"):
        compact(torch.zeros(2, 1, 32, 32), torch.ones(1))
