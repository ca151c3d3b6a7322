"""An application whose generated code is made when it is built."""

from greeter_app.generated.greeter.v1.greeter_protosocket import GREETER, GreeterStub

__all__ = ["GREETER", "GreeterStub"]
