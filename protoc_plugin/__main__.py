"""``python -m protoc_plugin`` is ``protoc-gen-protosocket``."""

from protoc_plugin.main import main

raise SystemExit(main())
