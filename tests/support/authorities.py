"""PEM certificates of throw-away authorities, for tests that only look at them."""

from typing import Final

from tests.support.certificates import Authority

PEM: Final = Authority().pem.encode()
OTHER_PEM: Final = Authority().pem.encode()
