"""A legacy server that ignores what comes before ``initialize``."""

from tests.support.stdio_servers.speaking import greeted, heard

started = False
for message in heard():
    started = started or message.get("method") == "initialize"
    if started:
        greeted(message)
