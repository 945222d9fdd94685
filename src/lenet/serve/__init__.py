"""A model as a web service: pictures, pixels and tensors in, labels out.

`build_service` and `build_app` make an ASGI application for any server; `serve` runs one.
"""
