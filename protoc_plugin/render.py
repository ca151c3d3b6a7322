"""From the model to checked output files, through Jinja templates.

A template's own file name says what it writes: ``{file}_protosocket.py.j2`` writes
``acme/greeter_protosocket.py`` for ``acme/greeter.proto``. A name with ``{service}`` in it is
rendered for each service, one with neither once for all protos; one that starts with ``_`` is for
other templates to include.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2

import protoc_plugin
from protoc_plugin import model
from protoc_plugin.bytecode import BytecodeCache
from protoc_plugin.errors import GenerationError
from protoc_plugin.filters import FILTERS
from protoc_plugin.options import Options

_ENDING = ".j2"


def shipped(name: str) -> Path:
    """A folder that comes with the plugin: beside this file when installed, above it in a clone."""
    here = Path(__file__).parent
    return here / name if (here / name).is_dir() else here.parent / name


class Renderer:
    """Renders the built-in templates of a language, and those of the user's folder."""

    def __init__(self, options: Options, parameter: str) -> None:
        self._variables = {
            "codec": options.codec,
            "model_version": model.VERSION,
            "parameter": parameter,
            "plugin_version": protoc_plugin.__version__,
        }
        builtin = shipped("templates") / options.lang
        folders = [builtin]
        if options.templates:
            folders.insert(0, Path(options.templates))
            if not folders[0].is_dir():
                raise GenerationError(f"option 'templates': {options.templates!r} is no folder")
        self._environment = jinja2.Environment(
            loader=jinja2.ChoiceLoader(
                [
                    jinja2.FileSystemLoader([str(folder) for folder in folders]),
                    # How a template of the user's names the one that it replaces.
                    jinja2.PrefixLoader({"builtin": jinja2.FileSystemLoader(str(builtin))}),
                ]
            ),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            auto_reload=False,
            bytecode_cache=BytecodeCache(builtin),
        )
        self._environment.filters |= {each.__name__: each for each in FILTERS}
        self._templates = sorted(
            {
                template.name
                for folder in folders
                for template in folder.glob(f"*{_ENDING}")
                if not template.name.startswith("_")
            }
        )
        for template in self._templates:
            if re.search("[{}]", re.sub("{(file|service)}", "", template)):
                raise GenerationError(
                    f"template {template}: {{file}} and {{service}} are all that a name may have"
                    " in braces"
                )

    def render(self, file: model.File) -> Iterator[tuple[str, str]]:
        """The name and the text of each output of one proto.

        Raises:
            GenerationError: a template is wrong, or what it wrote is no Python.
        """
        for template in self._templates:
            output = template.removesuffix(_ENDING).replace("{file}", file.stem)
            if "{service}" in template:
                for service in file.services:
                    name = output.replace("{service}", service.name.lower())
                    yield name, self._render(template, name, file=file, service=service)
            elif "{file}" in template:
                yield output, self._render(template, output, file=file)

    def render_all(self, files: Sequence[model.File]) -> Iterator[tuple[str, str]]:
        """The name and the text of each output of all protos together; raises as render()."""
        for template in self._templates:
            if "{" not in template:
                output = template.removesuffix(_ENDING)
                yield output, self._render(template, output, files=files)

    def _render(self, template: str, output: str, **variables: Any) -> str:
        try:
            text = self._environment.get_template(template).render(self._variables, **variables)
        except jinja2.TemplateSyntaxError as error:
            raise GenerationError(f"{error.filename}:{error.lineno}: {error.message}") from error
        except jinja2.TemplateNotFound as error:
            raise GenerationError(f"{_position(error, template)}: no template {error}") from error
        except Exception as error:
            # Templates are programs of the user's: whatever they raise is theirs to mend.
            raise GenerationError(f"{_position(error, template)}: {error}") from error
        if output.endswith(".py"):
            check_python(output, text)
        return text


def check_python(name: str, text: str, author: str = "the template") -> None:
    """Raises GenerationError if text is no Python module."""
    try:
        ast.parse(text)
    except SyntaxError as error:
        where, why = f"{name}:{error.lineno}" if error.lineno else name, error.msg
    except ValueError as error:  # a null character, on Python 3.10
        where, why = name, str(error)
    else:
        return
    raise GenerationError(f"{where}: {author} wrote invalid Python: {why}")


def _position(error: BaseException, template: str) -> str:
    """The template and line that raised: Jinja puts them into the traceback."""
    position = f"template {template}"
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename.endswith(_ENDING):
            position = f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return position
