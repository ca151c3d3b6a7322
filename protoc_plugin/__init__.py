"""protoc-gen-protosocket: from protobuf services to typed stubs and servicers.

The way of a request, one module each::

    protoc --> main --> options     what is asked for
                 |
                 +----> builder     descriptors to the model, with names by python or rust
                 |         model    what templates see: frozen, documented, versioned
                 |
                 +----> render      templates and filters to checked output --> protoc
                           bytecode built-in templates are compiled once

``protosocket generate`` goes it without protoc's help: generate finds out what is to be done,
compiler runs protoc for messages, messages and stubs make protoc's output fit that of services.

Nothing here imports the runtime.
"""

__version__ = "0.1.0"
