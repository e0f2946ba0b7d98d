"""The Kubernetes half: objects of the cluster in, one configuration document and the status of every object out.

What decides is pure, and is given everything that it needs::

    schema       names: groups, kinds, fields, labels, well-known objects, conditions
    fields       one JSON object read leniently: a value of the wrong type is an absent one
    objects      frozen views of what is read, one class per kind; ``view_of`` makes one from JSON
    store        the views by key, by namespace and by reference; knows which kinds have been listed
    reconcile/   (key, view, reports, now) -> outcome; see there

What waits is built on top and decides nothing: ``api`` (list, watch, patch), ``reflector`` (feeds the store),
``controller`` (calls ``reconcile`` and writes the outcomes), ``lease``, ``report`` (the data plane's own).

Invariant: no module below ``kube`` that decides imports trio, httpx2 or kubernetes, so the same cluster gives the same
outcome in a test, in this process and in the next one.
"""
