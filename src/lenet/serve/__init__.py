"""A model as a web service: pictures, pixels and tensors in, labels out.

`app.build_app` makes the ASGI application, `server.build_server` the uvicorn server that runs it.
"""
