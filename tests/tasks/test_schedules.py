import json

import pytest
import torch

from prithvi_tg.tasks.schedules import poly_schedule

pytestmark = pytest.mark.version_independent


@pytest.mark.parametrize(
    ("key", "steps", "base"),
    [
        ("lr.burn_scars(max_iters=10000, base=1.3e-5)", 10000, 1.3e-5),
        ("lr.sen1floods11(max_iters=6300, base=1.5e-5)", 6300, 1.5e-5),
    ],
)
def test_rates_equal_the_golden_ones(golden, key, steps, base):
    expected = json.loads((golden / "metrics" / "metrics_lr.json").read_text())[key]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=base)
    schedule = poly_schedule(optimizer, steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    for step, rate in expected.items():
        assert rates[int(step)] == pytest.approx(rate, rel=1e-9)
    assert optimizer.param_groups[0]["lr"] == 0


def test_a_warm_up_longer_than_the_run_speaks_up():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1)
    with pytest.warns(UserWarning, match="1500 steps do not fit into a run of 300"):
        poly_schedule(optimizer, 300)
