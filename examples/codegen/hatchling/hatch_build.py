"""Generates code before each build; [tool.protosocket] of pyproject.toml says what and where."""

import os
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

from protoc_plugin import generate


class GenerateHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        os.chdir(self.root)
        if generate.main([]):
            raise RuntimeError("protosocket generate failed")
        # What version control ignores is no part of a build unless it is named.
        build_data["artifacts"].append("src/greeter_app/generated/**")
