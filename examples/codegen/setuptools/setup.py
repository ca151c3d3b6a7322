"""Generates code before each build; [tool.protosocket] of pyproject.toml says what and where."""

from setuptools import setup

from protoc_plugin import generate

# Before setup() looks for packages, so that it finds the generated ones.
if generate.main([]):
    raise SystemExit("protosocket generate failed")

setup()
