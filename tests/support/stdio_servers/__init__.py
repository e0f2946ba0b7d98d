"""Little stdio servers, each nasty in one way; run as modules, standard library only."""
