"""Decoders from a user's module: their arguments, and errors about invalid ones."""

import pytest
import torch
from torch import nn

from prithvi_tg.errors import ConfigError
from prithvi_tg.models import create_decoder, create_encoder, token_channels, token_map
from prithvi_tg.tasks import PrithviSegmentationTask

HERE = __name__
TINY = {"width": 16, "depth": 2, "num_heads": 2}


class ConvNeck(nn.Module):
    def __init__(self, encoder, num_frames, channels, kernel=3):
        super().__init__()
        self.out_channels = channels
        width = token_channels("ConvNeck", encoder, num_frames)
        self.conv = nn.Conv2d(width, channels, kernel, padding=kernel // 2)

    def forward(self, tokens, grid):
        return self.conv(token_map(tokens, grid))


class OtherChannels(ConvNeck):
    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.out_channels *= 2


class Tokens(ConvNeck):
    def forward(self, tokens, grid):
        return tokens


class Listed(ConvNeck):
    def forward(self, tokens, grid):
        return [super().forward(tokens, grid)]


class FarLayers(ConvNeck):
    encoder_layers = (0, 7)


class LastLayers(ConvNeck):
    encoder_layers = (-2, -1)

    def forward(self, features, grid):
        return super().forward(sum(features), grid)


class OnlyChannels(nn.Module):
    def __init__(self, channels):
        super().__init__()


def build(encoder, num_frames, channels):
    return ConvNeck(encoder, num_frames, channels)


def make_task(decoder, **decoder_args):
    return PrithviSegmentationTask(
        encoder="nano", encoder_args=TINY, decoder=decoder, decoder_args=decoder_args, head_channels=8,
        num_classes=2, window=32,
    )  # fmt: skip


@pytest.mark.parametrize("decoder", ["ConvNeck", "LastLayers"])
def test_a_decoder_from_a_users_module_gives_logits_at_image_size(decoder):
    task = make_task(f"{HERE}.{decoder}", kernel=1)
    assert task(torch.randn(1, 1, 6, 40, 33)).shape == (1, 2, 40, 33)


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (
            "OtherChannels",
            r"decoder: OtherChannels returns shape \(1, 8, 2, 2\), not a map \(B, 16, its out_channels",
        ),
        ("Tokens", r"decoder: Tokens returns shape \(1, 5, 16\), not a map \(B, 8"),
        ("Listed", r"decoder: Listed returns list, not a map \(B, 8"),
    ],
)
def test_the_map_of_a_decoder_must_have_its_out_channels(decoder, message):
    task = make_task(f"{HERE}.{decoder}")
    with pytest.raises(ConfigError, match=message):
        task(torch.randn(1, 1, 6, 32, 32))


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        ("FarLayers", r"has encoder_layers \[0, 7\], but the encoder has 2 features, 0 to 1"),
        ("OnlyChannels", "'encoder'; it is called with encoder, num_frames, channels and decoder_args"),
        ("build", "build is not a class; it must be one that derives from torch.nn.modules.module.Module"),
    ],
)
def test_an_invalid_decoder_is_refused_when_it_is_created(decoder, message):
    with pytest.raises(ConfigError, match=message):
        create_decoder(f"{HERE}.{decoder}", create_encoder("nano", num_bands=6, **TINY))
