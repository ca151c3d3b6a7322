"""What a template sees of a .proto file: frozen, and complete before any template runs.

The model is a public interface, described for authors of templates in docs/templates.md.
Within one VERSION, fields are only ever added. Named tuples, as data classes take far longer to
define, and each run of the plugin does.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

VERSION: Final = 1

# The value of one of a method's settings.
Setting: TypeAlias = float | int | bool | str


class Message(NamedTuple):
    """A request or reply type.

    Attributes:
        name: its own name.
        full_name: ``package.Outer.Name``.
        type: how the output writes it where a type is expected.
        marshaller: the expression that makes its marshaller (Python only).
    """

    name: str
    full_name: str
    type: str
    marshaller: str


class Import(NamedTuple):
    """How the output imports a module of messages (Python only).

    Attributes:
        statement: the line that imports it.
        relative: it is found from the output's own package.
        dynamic: no import statement can say its name, so that it calls ``importlib``.
    """

    statement: str
    relative: bool
    dynamic: bool


class Method(NamedTuple):
    """A method of a service.

    Attributes:
        name: as in the proto.
        identifier: the method's name in the output.
        constant: the name of its descriptor in the output.
        attribute: the name of its callable in a stub (Python only).
        path: ``/package.Service/Method``.
        kind: ``UnaryUnary``, ``UnaryStream``, ``StreamUnary`` or ``StreamStream``.
        request, reply: the message types.
        doc: the proto's comment, without indentation, possibly empty; it says if deprecated.
        deprecated: the method or its service is.
        settings: pairs of name and value of what the proto's options say: ``timeout``
            (seconds), ``max_request_size``, ``max_reply_size`` (bytes),
            ``idempotency_level`` (``NO_SIDE_EFFECTS`` or ``IDEMPOTENT``), ``deprecated``; only
            those that were set.
    """

    name: str
    identifier: str
    constant: str
    attribute: str
    path: str
    kind: str
    request: Message
    reply: Message
    doc: str
    deprecated: bool
    settings: tuple[tuple[str, Setting], ...]

    @property
    def streams_requests(self) -> bool:
        return self.kind.startswith("Stream")

    @property
    def streams_replies(self) -> bool:
        return self.kind.endswith("Stream")


class Service(NamedTuple):
    """A service.

    Attributes:
        name: as in the proto.
        identifier: what the names of its types in the output are made of.
        constant: the name of its descriptor in the output.
        full_name: ``package.Service``.
        doc: the proto's comment, without indentation, possibly empty; it says if deprecated.
        deprecated: the service is.
        methods: in the proto's order.
    """

    name: str
    identifier: str
    constant: str
    full_name: str
    doc: str
    deprecated: bool
    methods: tuple[Method, ...]


class File(NamedTuple):
    """A .proto file that has services.

    Attributes:
        name: its path, as protoc names it.
        package: its protobuf package, possibly empty.
        stem: the path of the output without its ending, such as ``acme/greeter``.
        imports: the modules of its messages, in the order of a tidy file (Python only).
        services: in the proto's order.
    """

    name: str
    package: str
    stem: str
    imports: tuple[Import, ...]
    services: tuple[Service, ...]

    @property
    def basename(self) -> str:
        """The last part of the stem."""
        return self.stem.rpartition("/")[2]

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods of all services."""
        return tuple(method for service in self.services for method in service.methods)
