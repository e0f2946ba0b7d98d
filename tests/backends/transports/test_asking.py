"""The name of the request that failed, for those who look after servers."""

import pytest

from mcp_gateway.backends.transports.asking import asking
from mcp_gateway.errors import BackendAuth, BackendRefused, LocalFault
from mcp_gateway.values import BackendKey

KEY = BackendKey("files")


def test_an_error_says_which_request_was_refused_and_by_what() -> None:
    with pytest.raises(BackendAuth) as caught, asking("initialize"):
        raise BackendAuth(backend=KEY, status=401)
    assert caught.value.reason == "initialize: server 'files' refused the gateway's credential (HTTP 401)"


def test_the_innermost_name_stands_and_other_errors_have_none() -> None:
    with pytest.raises(BackendRefused) as caught, asking("outer"), asking("ping"):
        raise BackendRefused(backend=KEY, code=-1, message="no", status=400)
    assert caught.value.reason == "ping: server 'files' answered error -1 (HTTP 400): no"
    with pytest.raises(LocalFault) as fault, asking("ping"):
        raise LocalFault(what="a bug")
    assert fault.value.reason == "a bug"
