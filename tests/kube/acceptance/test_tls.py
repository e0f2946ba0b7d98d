"""Servers that speak TLS, and who is trusted. Numbers are those of docs/kubernetes-acceptance.md."""

import pytest

from tests.kube.acceptance.conftest import Open
from tests.support.certificates import Authority
from tests.support.kube.documents import extension, secret
from tests.support.kube.place import Place, until

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(120)]


def serve(place: Place, name: str, authority: Authority) -> None:
    """A server whose certificate names its Service."""
    host = f"{name}.{place.name}.svc.cluster.local"
    place.serve(name, port_name="https", tls=authority.server_context(host))


async def refused(place: Place, name: str) -> None:
    """Wait until a server is not connected to because of its certificate."""
    await until(lambda: place.said("Connected", name)[:2] == ("False", "ConnectionFailed"))
    assert "certificate" in place.said("Ready", name)[2].lower()
    assert not await place.names()


async def test_the_authority_of_a_registration_is_trusted_and_no_other(place: Place) -> None:
    """K-82, K-83, K-84: calls go over TLS too, without anything in between; a wrong authority is said in Ready."""
    right, wrong = Authority(), Authority()
    place.apply(secret(place.name, "ca", ca_crt=wrong.pem))
    serve(place, "server", right)
    place.register("server", "s_", caCertSecretRef={"name": "ca"})
    await refused(place, "server")
    place.apply(secret(place.name, "ca", ca_crt=right.pem))
    await place.ready("server")
    assert await place.call("s_greet", name="you") == "Hi you, this is server"
    assert place.objects.get("MCPServerRegistration", place.name, "server")["status"]["endpoint"].startswith("https://")


async def test_the_bundle_of_an_extension_is_trusted_for_all_its_servers_and_besides_their_own(new_place: Open) -> None:
    """K-87, K-88, K-89, K-92."""
    place = new_place()
    shared, own = Authority(), Authority()
    place.apply(secret(place.name, "bundle", ca_crt=shared.pem), secret(place.name, "own", ca_crt=own.pem))
    place.apply(extension(place.name, publicHost=place.host, caCertBundleRef={"name": "bundle"}))
    for name, authority in (("one", shared), ("two", shared), ("other", own), ("both", shared)):
        serve(place, name, authority)
    place.register("one", "one_")
    place.register("two", "two_")
    place.register("other", "other_", caCertSecretRef={"name": "own"})
    place.register("both", "both_", caCertSecretRef={"name": "bundle"})
    await place.ready("one", "two", "other", "both")
    for name in ("one", "two", "other", "both"):
        assert await place.call(f"{name}_greet", name="x") == f"Hi x, this is {name}"


async def test_a_bundle_that_is_missing_unlabelled_wrong_and_then_right(new_place: Open) -> None:
    """K-90, K-91."""
    place = new_place()
    right, wrong = Authority(), Authority()
    place.apply(extension(place.name, publicHost=place.host, caCertBundleRef={"name": "bundle"}))
    serve(place, "server", right)
    place.register("server", "s_")
    await until(lambda: place.said("Ready", "extension", "MCPGatewayExtension")[1] == "SecretNotFound")
    place.apply(secret(place.name, "bundle", labelled=False, ca_crt=wrong.pem))
    await until(lambda: "kubectl label secret bundle" in place.said("Ready", "extension", "MCPGatewayExtension")[2])
    place.apply(secret(place.name, "bundle", ca_crt=wrong.pem))
    await refused(place, "server")
    place.apply(secret(place.name, "bundle", ca_crt=right.pem))
    await place.ready("server")
    assert "s_greet" in await place.names()
