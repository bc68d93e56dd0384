"""Whom a request comes from, and how many connections each of them has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counter.addresses import Places, Trusted, one

PROXIES = Trusted(["127.0.0.0/8", "::1", "10.1.0.0/16"])


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9%eth0", "2001:db8:1:2::/64"),
        ("", ""),
        ("no address", "no address"),
        ("x" * 100, "x" * 45),
    ],
)
def test_a_client_is_an_address_or_a_network_of_ipv6(address: str, client: str) -> None:
    assert one(address) == client


@pytest.mark.parametrize(
    ("connected", "forwarded", "client"),
    [
        ("192.0.2.7", "", "192.0.2.7"),
        ("192.0.2.7", "198.51.100.1", "192.0.2.7"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("::ffff:127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "203.0.113.9, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "203.0.113.9, 198.51.100.1, 10.1.2.3", "198.51.100.1"),
        ("127.0.0.1", "203.0.113.9, nonsense", "127.0.0.1"),
        ("127.0.0.1", "nonsense, 10.1.2.3", "10.1.2.3"),
        ("127.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("", "198.51.100.1", ""),
    ],
)
def test_only_trusted_proxies_are_believed_about_whom_they_ask_for(
    connected: str, forwarded: str, client: str
) -> None:
    assert PROXIES.client(connected, forwarded) == client


@given(st.text(), st.text())
def test_no_header_breaks_it(connected: str, forwarded: str) -> None:
    assert PROXIES.client(connected, forwarded) == connected or connected in PROXIES


def test_each_client_has_its_places() -> None:
    places = Places(2, PROXIES)
    assert [places.take("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert places.take("192.0.2.2")
    assert [places.take(f"2001:db8::{number}") for number in (1, 2, 3)] == [True, True, False]
    assert all(places.take("10.1.0.9") for _ in range(100))
    places.leave("192.0.2.1")
    assert [places.take("192.0.2.1") for _ in range(2)] == [True, False]


def test_a_client_that_left_is_forgotten() -> None:
    places = Places(2, PROXIES)
    for number in range(100):
        for address in (f"192.0.2.{number}", "127.0.0.1"):
            assert places.take(address)
            places.leave(address)
    assert len(places) == 0


def test_all_clients_together_have_an_end_also_trusted_ones() -> None:
    places = Places(10, PROXIES, in_all=25)
    proxy = "10.1.0.9"
    assert places.take("1.2.3.4", 10)
    assert not places.take("1.2.3.4")
    assert places.take(proxy, 12)
    assert not places.take("5.6.7.8", 4)
    assert not places.take(proxy, 4)
    places.leave(proxy, 12)
    assert places.take("5.6.7.8", 10)
    places.leave("1.2.3.4", 10)
    assert places.take("1.2.3.4", 10)
    assert len(places) == 2
