"""What of a source is in force, before anything came and after."""

from mcp_gateway.config.source import Configuration
from mcp_gateway.config.spec import GatewaySpec, SessionsSpec
from mcp_gateway.errors import ConfigError, ConfigMistake

BAD = ConfigError(source="test", mistakes=(ConfigMistake(path="servers", line=1, what="is missing"),))


def test_a_source_that_has_nothing_yet_serves_nothing_and_says_so() -> None:
    configuration = Configuration.begin("test", None)
    assert configuration.spec.value.servers == ()
    assert configuration.status.value.loaded_at_unix_s is None
    configuration.refuse(BAD)
    assert configuration.status.value.error is not None
    assert configuration.status.value.loaded_at_unix_s is None


def test_the_first_configuration_is_loaded_even_if_it_says_nothing() -> None:
    configuration = Configuration.begin("test", None)
    configuration.take(GatewaySpec())
    status = configuration.status.value
    assert (status.generation, status.loaded_at_unix_s is not None, status.error) == (1, True, None)
    configuration.take(GatewaySpec())
    assert configuration.status.value == status


def test_the_first_configuration_needs_no_restart() -> None:
    configuration = Configuration.begin("test", None)
    configuration.take(GatewaySpec(sessions=SessionsSpec(store="redis://a")))
    assert configuration.status.value.restart_needed == ()
    assert configuration.spec.value.sessions.store == "redis://a"
