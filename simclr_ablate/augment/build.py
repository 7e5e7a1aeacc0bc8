"""The policy that a config names."""

from typing import Any

from simclr_ablate.augment.policies import (
    Policy,
    autoaugment_policy,
    crop_policy,
    library_policy,
    no_policy,
    own_policy,
    pair_policy,
    simclr_policy,
)
from simclr_ablate.augment.registry import Magnitudes
from simclr_ablate.calls import is_of_library
from simclr_ablate.schema import Data, Views


def build_policy(views: Views, data: Data) -> Policy:
    """The policy that makes the views of `data`'s images."""
    crop: dict[str, Any] = {
        "crop_area": views.crop_area,
        "interpolation": views.interpolation,
        "flip": views.flip,
    }
    magnitudes = {"strength": views.strength, "color": views.color, **crop}
    if views.policy == "crop":
        return crop_policy(data.size, **crop)
    if views.policy == "autoaugment":
        return autoaugment_policy(data.size, **crop)
    if views.policy == "simclr":
        return simclr_policy(data.size, blur=views.blur, extra=views.extra, **magnitudes)
    if views.policy == "pair":
        assert views.first is not None  # the schema requires both
        return pair_policy(data.size, views.first, views.second, **magnitudes)
    if views.policy == "none":
        return no_policy(data.size, interpolation=views.interpolation)
    if is_of_library(views.policy):
        return library_policy(views.policy, data.size)
    return own_policy(views.policy, Magnitudes(data.size, **magnitudes))
