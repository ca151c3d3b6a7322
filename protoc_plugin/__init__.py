"""protoc-gen-protosocket: from protobuf services to typed stubs and servicers.

The way of a request, one module each::

    protoc --> main --> options --> model <-- python, rust --> render --> protoc
                        (what is    (what the templates see,   (templates to files,
                         asked for)  named as the language does) checked)

Nothing here imports the runtime; ``protosocket generate`` (generate.py) runs protoc and this.
"""

__version__ = "0.1.0"
