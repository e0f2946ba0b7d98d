"""The Kubernetes half: objects of the cluster in, one configuration document and the status of every object out.

What decides is pure, and is given everything that it needs::

    schema       names: groups, kinds, fields, labels, well-known objects, conditions
    fields       one JSON object read by paths; a value of the wrong type makes it malformed, an unknown member nothing
    objects      frozen views of Kubernetes' own kinds; ``gateway_api`` and ``own_objects`` those of the others
    readers      the table from kinds to their readers
    store        the views by key, by namespace and by reference; knows what has not been listed yet
    reconcile/   (key, view, reports, now) -> outcome; see there

What waits is built on top and decides nothing: ``api`` (list, watch, patch), ``reflector`` (follows one selection),
a controller (feeds a ``Store``, asks ``reconcile`` and carries the outcomes out), ``lease``, and the data plane's own
report. A controller

- puts events into the store with ``put``, ``drop`` and ``replace``; ``Change.SUBSTANCE`` means that anything may have
  to be decided anew, ``Change.DETAIL`` that only the object itself may have to be written anew;
- decides nothing while ``Store.unlisted`` names something, and watches Secrets in ``Store.secret_namespaces`` only;
- feeds reports of its own instance and namespace into a ``ReportLog``, which says when time alone changes something;
- writes an outcome with the ``resource_version`` in it, and after a conflict decides anew instead of forcing it.

Invariant: no module below ``kube`` that decides imports trio, httpx2 or kubernetes, so the same cluster gives the same
outcome in a test, in this process and in the next one.
"""
