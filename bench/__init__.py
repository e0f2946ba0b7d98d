"""The benchmarks of the gateway: ``python -m bench [NAME...]``.

Every one runs the gateway as the program that users run, between processes of its own, on the loopback interface.
"""
