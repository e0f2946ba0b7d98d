"""A real Kubernetes API server for the tests, and what stands around it.

``assets`` finds the programs, ``authority`` makes certificates, ``apiserver`` runs etcd and kube-apiserver,
``kubelet`` answers ``kubectl logs``, ``kubectl`` runs the real one. Deliberately no fake of the API.
"""
