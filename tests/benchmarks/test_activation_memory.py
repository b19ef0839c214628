"""Memory of an activation map of a 14,000-token study."""

import subprocess
import sys

import pytest

LIMIT_GIB = 2.0
SCRIPT = """
import resource, torch
from hydra.utils import instantiate
from medvlp import config
from medvlp.evaluation.activation import activation_maps
names = ["model=hlip_vit_base_multiscan_h2_token1176", "++model.text.pretrained=null"]
model = instantiate(config.resolve(config.compose(names))["model"], _convert_="all").eval()
image, texts = torch.randn(4, 1, 144, 224, 224), torch.eye(2, 512)
found = activation_maps(model, image, texts)
assert found.maps.shape == (2, 4, 18, 14, 14)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is counted in KiB on Linux")
def test_four_scans_of_144_slices_stay_below_two_gib():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < LIMIT_GIB
