"""The heat model's network, loss and walk through `train`, `sample` and checkpoints."""

from importlib.resources import files

import numpy as np
import pytest
import torch

from diffmath.ddpm import CheckpointError, HeatDenoiser, heat_loss, load_checkpoint, sample, save_checkpoint, train
from diffmath.ddpm._processes import Processes
from diffmath.ddpm.samplers import SAMPLERS
from diffmath.ddpm.training.batches import Batches
from diffmath.heat import HeatProcess
from diffmath.schedule import VarianceSchedule
from tests import laws
from tests.ddpm.runs import QUICK, same

TIMES = [0.0, 1e-4, 1e-3, 1e-2, 0.1]


@pytest.fixture
def process(images):
    return HeatProcess.fit(images, TIMES)


def denoiser(process):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return HeatDenoiser(process, width=4)


def test_an_untrained_network_is_the_affine_regression(images, process):
    t = torch.tensor([1, 2, 3] * 5)
    x = process.add_noise(images, torch.randn(images.shape, generator=torch.manual_seed(0)), t)
    with torch.no_grad():
        prediction = denoiser(process)(x, t)
    for output, increment in ((prediction[:, :1], ""), (prediction[:, 1:], "_increment")):
        c, mean, centre, gain = process.to_modes(process.image(x)), *(
            process.at(name, t, x) for name in (f"mean{increment}", "mean", f"gain{increment}")
        )  # fmt: skip
        expected = process.to_pixels(mean + gain * (c - centre))
        laws.within(output, expected, 1e-5 * expected.abs().max().item(), label="regression")


def test_it_is_trained_and_resumed_bit_for_bit(tmp_path, images, process):
    runs = {}
    for name, stops in (("whole", (6,)), ("parts", (2, 6))):
        for n in stops:
            runs[name] = train(
                denoiser(process), process, images, n, loss=heat_loss, directory=tmp_path / name, resume=True, **QUICK
            )
    assert same(runs["whole"].model, runs["parts"].model)
    network, stored, metadata = load_checkpoint(tmp_path / "parts" / "checkpoint.safetensors")
    assert metadata["steps"] == 6
    assert metadata["settings"]["loss"] == "heat_loss"
    assert same(network, runs["parts"].model)
    for name, array in process.arrays().items():
        assert np.array_equal(array, stored.arrays()[name])
    first, second = (sample(network, stored, n_samples=3, generator=0, eta=eta) for eta in (1.0, 1.0))
    assert first.shape == (3, 1, 8, 8)
    assert torch.equal(first, second)
    other = HeatProcess.fit(images, [0.0, 1e-4, 1e-3, 1e-2, 0.2])
    with pytest.raises(ValueError, match="other settings: schedule"):
        train(denoiser(other), other, images, 8, loss=heat_loss, directory=tmp_path / "parts", resume=True, **QUICK)


def test_a_half_precision_file_keeps_the_tables(tmp_path, process):
    """The weights are rounded; the process, whose numbers range over many decades, is not."""
    path = tmp_path / "heat.safetensors"
    save_checkpoint(path, denoiser(process), process, dtype=torch.float16)
    again = load_checkpoint(path).schedule
    for name, table in process.tables.items():
        assert np.array_equal(table, again.tables[name]), name
    model = torch.nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match="its network is a HeatDenoiser"):
        load_checkpoint(path, model)


def test_times_are_drawn_as_often_as_the_process_says(images):
    class Skewed(VarianceSchedule):
        frequencies = np.array([1.0, 4.0, 0.0])

    batch = Batches(images, Skewed.linear(3), 5000, 0, Processes())
    counts = torch.bincount(batch(0)[2], minlength=4)[1:].double() / 5000
    laws.within(counts, np.array([0.2, 0.8, 0.0]), 5 * np.sqrt(0.16 / 5000), label="share")


def test_each_process_has_its_own_samplers(process):
    model = denoiser(process)
    with pytest.raises(ValueError, match="method must be one of 'heat'; it is 'ddim'"):
        sample(model, process, method="ddim")
    with pytest.raises(ValueError, match="method must be one of 'ancestral'.*; it is 'heat'"):
        sample(lambda x, t: x, VarianceSchedule.linear(5), torch.zeros(1, 2), method="heat")
    assert "heat" not in SAMPLERS
    with pytest.raises(ValueError, match="the model must return the shape"):
        sample(lambda x, t: x, process, n_samples=2)
    with pytest.raises(ValueError, match="process must have moments"):
        HeatDenoiser(HeatProcess((8, 8)))


def test_the_energy_asked_for_is_seen_by_the_network(process):
    """Two states that differ in C alone are two inputs."""
    model = denoiser(process)
    torch.nn.init.normal_(model.network.conv_out.weight, generator=torch.manual_seed(0))
    x = torch.from_numpy(process.start(1, np.random.default_rng(0))).float()
    other = x.clone()
    other[:, 2] += 1.0
    t = torch.tensor([2])
    assert not torch.allclose(model(x, t), model(other, t), atol=1e-3)


def test_the_shipped_model():
    """A small file with its process and an honest record, and digits that have the energy that they were asked for."""
    assert (files("diffmath.ddpm") / "weights" / "heat.safetensors").stat().st_size < 7e6
    model, process, record = load_checkpoint("heat")
    assert process.n_steps == 180
    assert record["images_seen"] == record["steps"] * record["settings"]["batch_size"]
    triples = np.repeat([[*process.law.centre, -2.0]], 2, axis=0)
    triples[:, 1] += [-1.5 * process.law.scale[1], 1.5 * process.law.scale[1]]
    x_T = torch.from_numpy(process.start(2, 0, triples)).float()
    images = sample(model, process, x_T, n_steps=30, eta=1.0, generator=0)
    low, high = np.log(process.energy(images.double().numpy()))[:, 0]
    assert high - low > 1.5 * process.law.scale[1]  # of the 3 deviations between them
