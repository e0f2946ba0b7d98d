"""What the controller decides: pure functions of what is known.

Some things can only be decided of all objects of a kind together, because the oldest wins every conflict. Each of these
is one function of the store, asked through ``Store.once``, in layers::

    claims       extensions -> Gateway, listeners in scope, hosts          (uses grants, attach, secrets)
    membership   registrations -> route -> extensions, prefixes            (uses claims, attach)
    selection    virtual servers -> extensions                             (uses claims)
    backend      registrations -> rule -> Service, TLS, credential         (uses membership, route, secrets)
    compile      all of them -> one configuration document

On top of these, one object at a time, ``reconcile(key, view, reports, now) -> Outcome``::

    registration · extension · virtual_server · route_status

``reports`` folds what the pods of the data plane say; ``conditions`` makes status of verdicts; ``outcome`` is what a
controller has to do. Nothing is decided before ``Store.unlisted`` is empty.
"""
