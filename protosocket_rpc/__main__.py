"""``python -m protosocket_rpc``: which build this is, and what it runs on."""

from protosocket_rpc.build import build_info

if __name__ == "__main__":
    print(build_info())
