"""Addresses as containers reach them."""

import pytest

from shared.core.addresses import ContainerAddresses
from shared.core.errors import Invalid

PAIRS = ("http://localhost:1=http://gate:1", "http://localhost:12=http://other:2", "file:///=http://u:p@gate:3/")


class TestContainerAddresses:
    @pytest.mark.parametrize(
        ("outside", "inside"),
        [
            ("http://localhost:1/a/b.git", "http://gate:1/a/b.git"),
            ("http://localhost:12/a.git", "http://other:2/a.git"),
            ("file:///srv/repo", "http://u:p@gate:3/srv/repo"),
            ("https://github.com/a/b", "https://github.com/a/b"),
        ],
    )
    def test_the_longest_prefix_that_fits_is_replaced(self, outside: str, inside: str) -> None:
        assert ContainerAddresses.parse(PAIRS).inside(outside) == inside

    def test_without_pairs_an_address_stays_as_it_is(self) -> None:
        assert ContainerAddresses().inside("http://localhost:1/a") == "http://localhost:1/a"

    def test_what_a_container_says_is_told_with_the_address_outside(self) -> None:
        said = "fatal: repository 'http://gate:3/srv/repo/' not found, nor http://gate:1/a"
        told = "fatal: repository 'file:///srv/repo/' not found, nor http://localhost:1/a"
        assert ContainerAddresses.parse(PAIRS).outside(said) == told

    @pytest.mark.parametrize("pair", ["http://localhost:1", "=http://gate", "http://localhost="])
    def test_half_a_pair_is_refused_at_the_start(self, pair: str) -> None:
        with pytest.raises(Invalid, match="CONTAINER_URLS"):
            ContainerAddresses.parse((pair,))

    def test_no_login_is_shown(self) -> None:
        assert "u:p" not in repr(ContainerAddresses.parse(PAIRS))
