"""Templates of the user's: added, replaced, and wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from codegen.regenerate import HERE, ROOT, protoc

from protoc_plugin import generate, model

HELLOWORLD = HERE / "helloworld"


def run(templates: Path, out: Path) -> str:
    """What protoc has to say when the plugin uses these templates."""
    out.mkdir(exist_ok=True)
    done = protoc(
        f"--protosocket_out=templates={templates}:{out}", "helloworld.proto", cwd=HELLOWORLD
    )
    error: str = done.stderr
    assert (done.returncode == 0) == (error == "")
    return error


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    folder = tmp_path / "templates"
    folder.mkdir()
    return folder


def write(templates: Path, name: str, text: str) -> None:
    (templates / name).write_text(text)


def test_a_template_is_added(templates: Path, tmp_path: Path) -> None:
    write(templates, "{file}.md.j2", "{% for each in file.methods %}{{ each.path }}\n{% endfor %}")
    assert run(templates, tmp_path / "out") == ""
    assert (tmp_path / "out" / "helloworld.md").read_text().split() == [
        "/helloworld.Greeter/SayHello",
        "/helloworld.Greeter/SayHelloInEveryLanguage",
        "/helloworld.Greeter/GreetAll",
        "/helloworld.Greeter/Greet",
    ]
    name = "helloworld_protosocket.py"
    text = (tmp_path / "out" / name).read_text()
    assert text.split("\n")[3:] == (HELLOWORLD / "out" / name).read_text().split("\n")[3:]


def test_a_template_can_be_for_each_service(templates: Path, tmp_path: Path) -> None:
    write(templates, "{file}_{service}.txt.j2", "{{ service.full_name }} in {{ file.name }}")
    assert run(templates, tmp_path / "out") == ""
    text = (tmp_path / "out" / "helloworld_greeter.txt").read_text()
    assert text == "helloworld.Greeter in helloworld.proto"


def test_a_template_can_be_for_all_protos(templates: Path, tmp_path: Path) -> None:
    write(templates, "index.txt.j2", "{% for file in files %}{{ file.stem }}{% endfor %}")
    assert run(templates, tmp_path / "out") == ""
    assert (tmp_path / "out" / "index.txt").read_text() == "helloworld"


def test_a_part_of_the_built_in_template_is_replaced(templates: Path, tmp_path: Path) -> None:
    write(templates, "_servicer.py.j2", '{% include "builtin/_servicer.py.j2" %}\n\nMINE = True\n')
    assert run(templates, tmp_path / "out") == ""
    text = (tmp_path / "out" / "helloworld_protosocket.py").read_text()
    assert "class GreeterServicer:" in text
    assert text.endswith("\n\nMINE = True\n")
    assert not (tmp_path / "out" / "_servicer.py").exists()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("\n{{ file.nme }}", ":2: 'protoc_plugin.model.File object' has no attribute 'nme'"),
        ("{{ fle }}", ":1: 'fle' is undefined"),
        ("{% for %}", ":1: Expected an expression, got 'end of statement block'"),
        ("{{ 1 / 0 }}", ":1: division by zero"),
        ('{% include "none.j2" %}', ":1: no template none.j2"),
    ],
)
def test_a_wrong_template_is_one_line(
    text: str, error: str, templates: Path, tmp_path: Path
) -> None:
    write(templates, "{file}.txt.j2", text)
    shown = run(templates, tmp_path / "out")
    assert shown == f"--protosocket_out: {templates / '{file}.txt.j2'}{error}\n"
    assert not list((tmp_path / "out").iterdir())


def test_a_template_in_no_unicode_is_named(templates: Path, tmp_path: Path) -> None:
    (templates / "{file}.txt.j2").write_bytes(b"caf\xe9")
    shown = run(templates, tmp_path / "out")
    assert shown.startswith("--protosocket_out: template {file}.txt.j2: 'utf-8' codec can't decode")
    assert shown.count("\n") == 1


@pytest.mark.parametrize("name", ["{files}.txt.j2", "{file}_{Service}.py.j2", "{file.py.j2"])
def test_a_misspelt_name_of_a_template_is_one_line(
    name: str, templates: Path, tmp_path: Path
) -> None:
    write(templates, name, "")
    assert run(templates, tmp_path / "out") == (
        f"--protosocket_out: template {name}: {{file}} and {{service}} are all that a name may"
        " have in braces\n"
    )


def test_two_templates_that_write_one_file_are_one_line(templates: Path, tmp_path: Path) -> None:
    write(templates, "{service}.md.j2", "")
    write(templates, "greeter.md.j2", "")
    assert run(templates, tmp_path / "out") == (
        "--protosocket_out: a template writes greeter.md, as helloworld.proto does; rename it\n"
    )


def test_a_template_may_not_write_what_messages_do(
    templates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(templates, "{file}_pb2.py.j2", "")
    arguments = [str(HELLOWORLD), "--out", str(tmp_path / "gen"), "--templates", str(templates)]
    assert generate.main(arguments) == 1
    assert capsys.readouterr().err == (
        "protosocket generate: a template writes helloworld_pb2.py, as messages do; rename it\n"
    )


@pytest.mark.parametrize(
    ("text", "where", "error"),
    [
        ("\nclass :\n", ":2", "invalid syntax"),
        ("a{{ '\\0' }}b", "", "source code string cannot contain null bytes"),
    ],
)
def test_python_that_is_none_is_refused(
    text: str, where: str, error: str, templates: Path, tmp_path: Path
) -> None:
    write(templates, "{file}_mine.py.j2", text)
    assert run(templates, tmp_path / "out") == (
        f"--protosocket_out: helloworld_mine.py{where}:"
        f" the template wrote invalid Python: {error}\n"
    )


@pytest.mark.parametrize("kind", [model.File, model.Service, model.Method, model.Message])
def test_the_document_tells_of_every_field(kind: Any) -> None:
    document = (ROOT / "docs" / "templates.md").read_text()
    section = document.partition(f"\n### `{kind.__name__.lower()}`")[2].partition("\n##")[0]
    properties = {name for name, value in vars(kind).items() if isinstance(value, property)}
    for name in {*kind._fields, *properties}:
        assert f"`{name}`" in section, f"{kind.__name__}.{name}"
    assert f"model version {model.VERSION}" in document
