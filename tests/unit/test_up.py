"""What `nats-identify up` says once the queue is ready."""

import pytest

from nats_identify.cli.up import directions


@pytest.mark.parametrize(
    ("port", "said"),
    [(8090, "in a browser at http://127.0.0.1:8090/,"), (0, "in a browser at the address in the log above (HTTP is")],
)
def test_it_says_where_the_page_is(port, said):
    assert said in directions("nats://127.0.0.1:4222", "identify", port)
