"""The frames of service calls: bytes <-> `Frame`, hand-coded; docs/wire.md specifies them."""
