"""Whatever is in a file: reading it gives sound pictures or one `ImageReadError`.

Few damaged files here, many with `pytest -m fuzz`; what those have found is in
`findings/` and is read again each time.
"""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import reading
from damage import damaged_files
from hypothesis import HealthCheck, given, settings
from seeds import make_seeds

FINDINGS = Path(__file__).parent / "findings"


@pytest.mark.parametrize("name", sorted(make_seeds()))
def test_seed_is_sound(tmp_path, name):
    suffix, content, pack = make_seeds()[name]
    path = tmp_path / f"seed{suffix}"
    path.write_bytes(pack(content))

    assert reading.check(path) is None


@settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(file=damaged_files())
def test_damaged_files(tmp_path_factory, file):
    path = tmp_path_factory.getbasetemp() / f"damaged{file.suffix}"
    path.write_bytes(file.data)

    reading.check(path)


@pytest.mark.parametrize("path", sorted(FINDINGS.iterdir()), ids=lambda path: path.name)
def test_finding(tmp_path, path):
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())

    reading.check(copy)


@pytest.mark.fuzz
def test_campaign():
    """New findings are kept, to be mended; the test fails until they are."""
    minutes = os.environ.get("HRCAM_FUZZ_MINUTES", "5")
    seed = str(random.SystemRandom().randrange(2**32))
    campaign = Path(__file__).with_name("campaign.py")
    # One thread: a process that parts in two must not have more.
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

    done = subprocess.run(
        [sys.executable, campaign, FINDINGS, minutes, seed],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # libtiff's own words
        text=True,
        check=False,
    )

    print(f"seed {seed}\n{done.stdout}")
    assert done.returncode == 0, f"seed {seed}\n{done.stdout}"
