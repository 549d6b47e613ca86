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
def test_learning_rates_equal_the_golden_ones(golden, key, steps, base):
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


def test_an_added_group_starts_at_its_rate_and_decays_with_the_others():
    first, later = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimizer = torch.optim.SGD([first], lr=1.0)
    schedule = poly_schedule(optimizer, 10, warmup_steps=0)
    rates = []
    for step in range(8):
        if step == 5:
            optimizer.add_param_group({"params": [later], "lr": 0.05})
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    assert rates[4] == pytest.approx([0.6])
    assert [*rates[5], *rates[6], *rates[7]] == pytest.approx([0.5, 0.05, 0.4, 0.04, 0.3, 0.03])
