"""The package's own promises: what it imports, what it exports."""

import subprocess
import sys

import pytest

import nats_identify.testing


@pytest.mark.parametrize("name", ["Judge", "Record", "InstantQueue", "ShardState"])
def test_what_needs_no_aiohttp_works_without_it(name: str) -> None:
    code = f"import sys; sys.modules['aiohttp'] = None; from nats_identify.testing import {name}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", nats_identify.testing.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(nats_identify.testing, name).__doc__


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = nats_identify.testing.Nonsense
