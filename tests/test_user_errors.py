"""An error in a user's class is shown with its traceback; a wrong argument of the class gives one line."""

import sys
import traceback

import pytest
import yaml

MODULE = """\
from lightning.pytorch import Callback

from prithvi_tg.datamodules import Sen1Floods11DataModule
from prithvi_tg.errors import DataError


class Wrong(Sen1Floods11DataModule):
    def __init__(self, root: str, kind: str = "type", **kwargs):
        super().__init__(root, **kwargs)
        if kind == "type":
            self.size = len(3)  # the line of the TypeError
        if kind == "key":
            self.size = {}["size"]  # the line of the KeyError
        if kind == "value":
            self.size = int("many")  # the line of the ValueError
        raise DataError(f"{root}: refused")


class WrongCallback(Callback):
    def __init__(self, every: int = 1):
        self.names = {}["names"]  # the line of the callback
"""


@pytest.fixture
def fit(config, command, tmp_path, monkeypatch):
    """Run ``fit`` with a changed configuration; its exit code and what it writes to the standard error."""
    (tmp_path / "my_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_module", raising=False)

    def run(change):
        settings = yaml.safe_load(config.read_text())
        change(settings)
        config.write_text(yaml.safe_dump(settings))
        try:
            code, _, err = command("fit", "--config", config)
        except Exception as error:  # noqa: BLE001 (which Python would show)
            return 1, "".join(traceback.format_exception(error))
        return code, err

    return run


def own_data(settings, **arguments):
    settings["data"]["class_path"] = "my_module.Wrong"
    settings["data"]["init_args"].update(arguments)


@pytest.mark.parametrize(
    ("kind", "last"),
    [
        ("type", "TypeError: object of type 'int' has no len()"),
        ("key", "KeyError: 'size'"),
        ("value", "ValueError: invalid literal for int() with base 10: 'many'"),
    ],
)
def test_an_error_in_a_data_module_has_its_file_and_line(kind, last, fit):
    code, err = fit(lambda settings: own_data(settings, kind=kind))
    name = last.partition(":")[0]
    assert code == 1
    assert 'my_module.py", line ' in err
    assert f"# the line of the {name}" in err
    assert err.strip().splitlines()[-1] == last


def test_an_error_in_a_callback_has_its_file_and_line(fit):
    def change(settings):
        settings["trainer"]["callbacks"] = [{"class_path": "my_module.WrongCallback"}]

    code, err = fit(change)
    assert code == 1
    assert "# the line of the callback" in err
    assert err.strip().splitlines()[-1] == "KeyError: 'names'"


def test_an_error_of_this_package_from_a_users_class_has_one_line(fit):
    code, err = fit(lambda settings: own_data(settings, kind="none"))
    assert code == 1
    assert "Traceback" not in err
    assert "refused" in err.strip().splitlines()[-1]


def test_a_wrong_argument_of_a_users_class_gives_one_line(fit):
    code, err = fit(lambda settings: own_data(settings, batchsize=2))
    assert code == 2
    assert "Traceback" not in err
    assert "prithvi-tg: error: " in err.strip().splitlines()[-1]
    assert "batchsize" in err.strip().splitlines()[-1]
