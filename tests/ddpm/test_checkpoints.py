"""Checkpoints: what goes in comes out, and nothing else gets in."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from diffmath.ddpm import CheckpointError, UNet, load_checkpoint, save_checkpoint, train
from diffmath.ddpm.checkpoints import _pack, read_tensors
from diffmath.schedule import VarianceSchedule

SCHEDULE = VarianceSchedule.cosine(30)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small network and its file."""
    torch.manual_seed(0)
    model = UNet(width=32, image_size=8)
    path = tmp_path_factory.mktemp("checkpoint") / "saved.safetensors"
    save_checkpoint(path, model, SCHEDULE, {"data": "none", "steps": 0}, dtype=torch.float16)
    return model, path


def rewritten(path, out, tensors=None, **changes):
    """A copy of a checkpoint with other tensors or another header, and the digest that belongs to them."""
    whole, header = read_tensors(path)
    out.write_bytes(_pack(header | changes, tensors or whole))
    return out


def test_round_trip(saved):
    model, path = saved
    checkpoint = load_checkpoint(path)
    assert checkpoint.schedule == SCHEDULE  # float64, bit for bit
    assert checkpoint.metadata == {"data": "none", "steps": 0}
    assert checkpoint.model.config == model.config
    assert not checkpoint.model.training
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(checkpoint.model.state_dict()[name], tensor.half().float(), rtol=0, atol=0)
    assert path.stat().st_size < 2.1 * sum(p.numel() for p in model.parameters())  # half precision


@pytest.mark.parametrize(
    ("name", "parameters", "images"),
    [(None, 3_254_177, 600_000), ("compact", 3_254_177, 600_000), ("paper", 12_980_033, 540_032)],
)
def test_the_shipped_networks(name, parameters, images):
    checkpoint = load_checkpoint(name)
    assert checkpoint.schedule == VarianceSchedule.linear()
    assert sum(p.numel() for p in checkpoint.model.parameters()) == parameters
    record = checkpoint.metadata
    before = record.get("started_from", {}).get("images_seen", 0)
    assert record["images_seen"] == before + record["steps"] * record["settings"]["batch_size"] >= images
    assert {"data", "steps", "settings", "device", "losses", "date", "commit"} <= set(record)
    # It predicts noise: far better than zero, whose error is 1, at a middling noise level.
    from diffmath.data import load_mnist, to_tensor

    x_0 = to_tensor(load_mnist("sample").images[::50])
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        predicted = checkpoint.model(checkpoint.schedule.add_noise(x_0, eps, 200), torch.full((len(x_0),), 200))
    assert (predicted - eps).square().mean() < 0.03


@given(st.data())
def test_truncated(saved, tmp_path_factory, data):
    content = saved[1].read_bytes()
    path = tmp_path_factory.getbasetemp() / "truncated.safetensors"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(CheckpointError, match="no complete safetensors file"):
        load_checkpoint(path)


@pytest.fixture(scope="module")
def small(saved):
    """The content of a checkpoint of a few numbers, whose header is most of it."""
    header = read_tensors(saved[1])[1]
    header["metadata"] |= {"learning_rate": 1e-05, "losses": [[1, 1.5e300], [2, 0.25]]}
    tensors = {"model.a": torch.arange(6.0).reshape(2, 3), "model.b": torch.tensor(1.5), "schedule.beta": torch.ones(2)}
    return _pack(header, tensors), header, tensors


@given(st.data())
def test_flipped_bits(small, tmp_path_factory, data):
    """Bytes changed, dropped or put in, anywhere: an error, or nothing was lost."""
    content, header, tensors = small
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        match data.draw(st.sampled_from(["flip", "drop", "insert"])):
            case "flip":
                damaged[place] ^= 1 << data.draw(st.integers(0, 7))
            case "drop":
                del damaged[place]
            case "insert":
                damaged.insert(place, data.draw(st.integers(0, 255)))
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(damaged)
    try:
        found, its_header = read_tensors(path)
    except CheckpointError as error:
        assert str(path) in str(error)
    else:
        assert its_header == header
        assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


@given(st.integers(0, 2**31), st.integers(0, 7))
@settings(max_examples=20)
def test_flipped_bits_of_a_network(saved, tmp_path_factory, place, bit):
    """No other network is returned for the one that was saved."""
    content = bytearray(saved[1].read_bytes())
    content[place % len(content)] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged\.safetensors"):
        load_checkpoint(path)


@given(st.binary(max_size=200))
@example(b"\x80\x04\x95")  # the beginning of a pickle
@example(b"PK\x03\x04")  # the beginning of torch's own format
def test_foreign_bytes(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "foreign.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"foreign\.safetensors"):
        load_checkpoint(path)


def test_other_files(saved, tmp_path):
    _, path = saved
    with pytest.raises(CheckpointError, match="there is no file"):
        load_checkpoint(tmp_path / "nothing")
    save_file({"a": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(CheckpointError, match="no checkpoint of diffmath"):
        load_checkpoint(tmp_path / "other")
    with pytest.raises(CheckpointError, match="format version 3; this version of diffmath reads 2"):
        load_checkpoint(rewritten(path, tmp_path / "newer", version=3, architecture=None))  # whatever else it holds
    with pytest.raises(CheckpointError, match="holds a Transformer"):
        load_checkpoint(rewritten(path, tmp_path / "a", architecture={"name": "Transformer", "config": {}}))
    with pytest.raises(CheckpointError, match="damaged header"):
        load_checkpoint(rewritten(path, tmp_path / "b", architecture=None))
    with pytest.raises(
        CheckpointError,
        match="does not hold the network that it announces: the tensor embedding.linear1.weight must have shape",
    ):
        wide = {"name": "UNet", "config": {"width": 64}}
        load_checkpoint(rewritten(path, tmp_path / "c", architecture=wide))
    with pytest.raises(CheckpointError, match="the tensor conv_in.weight is missing"):
        tensors = load_file(path)
        del tensors["model.conv_in.weight"]
        load_checkpoint(rewritten(path, tmp_path / "d", tensors))
    with pytest.raises(CheckpointError, match="the tensor extra belongs to no such network"):
        load_checkpoint(rewritten(path, tmp_path / "f", load_file(path) | {"model.extra": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match=r"the tensor conv_in.bias must be finite"):
        tensors = load_file(path)
        tensors["model.conv_in.bias"][0] = float("nan")
        load_checkpoint(rewritten(path, tmp_path / "g", tensors))
    with pytest.raises(CheckpointError, match=r"beta must lie in \(0, 1\)"):
        tensors = load_file(path)
        tensors["schedule.beta"][3] = 2
        load_checkpoint(rewritten(path, tmp_path / "e", tensors))
    with pytest.raises(CheckpointError, match=r"that it announces: it has no 'beta'"):
        del tensors["schedule.beta"]
        load_checkpoint(rewritten(path, tmp_path / "h", tensors))
    with pytest.raises(CheckpointError, match="damaged header: .*its metadata are a str, not a dict"):
        load_checkpoint(rewritten(path, tmp_path / "i", metadata="hello"))
    save_file({"a": torch.zeros(1)}, tmp_path / "deep", metadata={"diffmath.checkpoint": "[" * 100_000})
    with pytest.raises(CheckpointError, match="damaged header: RecursionError"):
        load_checkpoint(tmp_path / "deep")


def test_headers_that_cannot_be_written_again(small, tmp_path):
    """Numbers beyond a float, and depths that JSON reads and does not write: an error that names the file."""
    header = json.dumps(small[1] | {"metadata": {"x": "VALUE"}})
    path = tmp_path / "odd.safetensors"
    for value in ["1e999", "-1e999", "NaN", *("[" * depth + "]" * depth for depth in range(900, 1100))]:
        save_file({"a": torch.zeros(1)}, path, metadata={"diffmath.checkpoint": header.replace('"VALUE"', value)})
        with pytest.raises(CheckpointError, match=r"odd\.safetensors (has a damaged header|is damaged)"):
            load_checkpoint(path)


def test_refuses_weights_that_are_not_finite(saved, tmp_path):
    model = UNet(width=32, image_size=8)
    with torch.no_grad():
        model.conv_in.bias[0] = 1e30
    save_checkpoint(tmp_path / "fine", model, SCHEDULE)
    with pytest.raises(ValueError, match=r"finite in torch.float16; conv_in.bias is not"):
        save_checkpoint(tmp_path / "fine", model, SCHEDULE, dtype=torch.float16)
    assert load_checkpoint(tmp_path / "fine").model.conv_in.bias[0] == 1e30  # the file that was there is kept


def test_dtypes_that_keep_the_weights(saved, tmp_path):
    """Integers would hold zeros; so would half precision, of weights that are small enough."""
    model, _ = saved
    for dtype in (torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn):
        with pytest.raises(ValueError, match="dtype must be one of torch.float64, .*float16; it is torch"):
            save_checkpoint(tmp_path / "a", model, SCHEDULE, dtype=dtype)
    tiny = UNet(width=32, image_size=8)
    torch.nn.init.constant_(tiny.conv_in.bias, 1e-9)
    with pytest.raises(ValueError, match=r"not vanish in torch.float16; all of conv_in.bias becomes zero"):
        save_checkpoint(tmp_path / "a", tiny, SCHEDULE, dtype=torch.float16)
    assert not (tmp_path / "a").exists()
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        save_checkpoint(tmp_path / "a", model, SCHEDULE, dtype=dtype)
        found = load_checkpoint(tmp_path / "a").model.state_dict()
        for name, tensor in model.state_dict().items():
            assert torch.equal(found[name], tensor.to(dtype).float())


def test_metadata_are_refused_by_the_entry(saved, tmp_path):
    with pytest.raises(TypeError, match="'digits' would come back as something else; keys must be strings"):
        save_checkpoint(tmp_path / "a", saved[0], SCHEDULE, {"b": 1, "digits": {1: 2}})


@pytest.mark.parametrize(
    "metadata", [{1: "a", "1": "b"}, {"a": {None: 1}}, {"a": [{True: 1}]}, {2.5: 1}, {"a": {1, 2}}]
)
def test_metadata_that_json_changes(saved, tmp_path, metadata):
    """Refused before anything is written: what is loaded would be something else, or damaged."""
    with pytest.raises(TypeError, match="the metadata must be what JSON can hold"):
        save_checkpoint(tmp_path / "a", saved[0], SCHEDULE, metadata)
    with pytest.raises(TypeError, match="the metadata must be what JSON can hold"):
        train(saved[0], SCHEDULE, torch.randn((4, 1, 8, 8)), 1, metadata=metadata, directory=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_metadata_that_json_keeps(saved, tmp_path):
    metadata = {"a": (1, [2.5, None]), "b": {"c": True, "ä": "\N{SNOWMAN}"}, "": 10**30, "d": np.float64(0.1)}
    save_checkpoint(tmp_path / "a", saved[0], SCHEDULE, metadata)
    assert load_checkpoint(tmp_path / "a").metadata == metadata | {"a": [1, [2.5, None]]}


class Other(nn.Module):
    """A network of a user: buffers, integers, a weight used twice, none of it a UNet's."""

    def __init__(self, width=3):
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.last = nn.Conv2d(width, 1, 3, padding=1)
        self.again = self.last

    def forward(self, x, t):
        return self.again(self.norm(self.first(x)))


def test_any_network(saved, tmp_path):
    """Its state dict is what is saved; the file holds no code, so the class comes from the caller."""
    model, path = Other(), tmp_path / "other"
    model(torch.randn(2, 1, 8, 8), None)  # moves the running means, and counts the batches
    save_checkpoint(path, model, SCHEDULE, dtype=torch.float16)
    with pytest.raises(CheckpointError, match=r"holds a .*Other, and only its weights: .*model=Other\(\.\.\.\)"):
        load_checkpoint(path)
    other = Other()
    found = load_checkpoint(path, other)
    assert found.model is other
    assert not other.training
    for name, tensor in model.state_dict().items():
        expected = tensor.half().float() if tensor.is_floating_point() else tensor
        assert torch.equal(other.state_dict()[name], expected), name
    with pytest.raises(CheckpointError, match=r"does not fit the model: the tensor first.weight must have shape"):
        load_checkpoint(path, Other(4))
    with pytest.raises(CheckpointError, match=r"does not fit the model: its network is a .*Other, not a UNet"):
        load_checkpoint(path, UNet(32))
    unet = UNet(width=32, image_size=8)
    assert load_checkpoint(saved[1], unet).model is unet
    with pytest.raises(CheckpointError, match="its network is {.*8}, not {.*16}"):
        load_checkpoint(saved[1], UNet(width=32, image_size=16))


class Mine(UNet):
    """The same weights, but another function of them."""


def test_a_subclass_is_another_network(tmp_path):
    save_checkpoint(tmp_path / "mine", Mine(32), SCHEDULE)
    with pytest.raises(CheckpointError, match="holds a tests.ddpm.test_checkpoints.Mine, and only its weights"):
        load_checkpoint(tmp_path / "mine")
    assert type(load_checkpoint(tmp_path / "mine", Mine(32)).model) is Mine
    with pytest.raises(CheckpointError, match="its network is a .*Mine, not a UNet"):
        load_checkpoint(tmp_path / "mine", UNet(32))


def test_names_of_files(saved, tmp_path, monkeypatch):
    """A path may be a shipped network's name, or begin with ~; a name that is neither is told what there is."""
    assert load_checkpoint(Path("compact")).metadata == load_checkpoint().metadata
    with pytest.raises(CheckpointError, match="no file tiny; the shipped networks are 'compact', 'paper', 'heat'"):
        load_checkpoint("tiny")
    with pytest.raises(CheckpointError, match="is a directory; the network of a training is its model.safetensors"):
        load_checkpoint(saved[1].parent)
    monkeypatch.setenv("HOME", str(saved[1].parent))
    assert load_checkpoint("~/saved.safetensors").metadata["data"] == "none"
