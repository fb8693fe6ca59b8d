"""The house rules that no linter has."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("streams", "projections", "genledger", "migrations", "benchmarks")
FUNCTION_LINES_MAX = 40
MODULES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
TEST_MODULES = sorted((ROOT / "tests").rglob("*.py"))

# The clock belongs to streams/clock.py; everyone else is given the time.
CLOCKS = {
    ("time", "time"),
    ("time", "time_ns"),
    ("time", "monotonic"),
    ("time", "monotonic_ns"),
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
    ("date", "today"),
}
CLOCK_MODULE = ROOT / "streams" / "clock.py"
MONEY_NAME = re.compile(r"cost|money|nano|markup|price|amount", re.IGNORECASE)
TEXT_SUFFIXES = {
    ".py",
    ".md",
    ".toml",
    ".json",
    ".ndjson",
    ".lock",
    ".yml",
    ".yaml",
    ".sql",
    ".mako",
    ".txt",
    "",
}
# Where someone's own machine shows, and where packages came from on it.
FOREIGN = re.compile(
    r"/(?:home|Users|root|work|opt/wheels)/[A-Za-z0-9_.-]+|--index-url|--extra-index-url|--find-links"
    r"|--trusted-host|https?://[^\s/]*(?:pypi\.org|pythonhosted\.org|artifactory|nexus)"
)


def _name(path):
    return str(path.relative_to(ROOT))


def _tree(path):
    return ast.parse(path.read_text(), filename=str(path))


def _functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _calls(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def _tracked():
    """The files that are, or are about to be, in the repository."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / line for line in listed.splitlines() if (ROOT / line).is_file()]


def _offenders(paths, found_in):
    """What is found in each module, by its name; only those where something is."""
    found = {_name(path): found_in(path) for path in paths}
    return {name: items for name, items in found.items() if items}


def test_each_module_says_what_it_is_for():
    """Each module opens with a docstring."""
    assert _offenders(MODULES, lambda path: not ast.get_docstring(_tree(path))) == {}


def test_each_function_fits_on_a_screen():
    """No function's body is longer than 40 lines, its docstring left out."""

    def long(path):
        lines = {node.name: _lines(node) for node in _functions(_tree(path))}
        return {name: count for name, count in lines.items() if count > FUNCTION_LINES_MAX}

    assert _offenders(MODULES, long) == {}


def _lines(node):
    body = node.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_only_the_clock_reads_the_clock():
    """Times are given, so that a test can give its own."""

    def read(path):
        tree = _tree(path)
        called = [
            f"line {call.lineno}: {call.func.value.id}.{call.func.attr}"
            for call in _calls(tree)
            if isinstance(call.func, ast.Attribute)
            and isinstance(call.func.value, ast.Name)
            and (call.func.value.id, call.func.attr) in CLOCKS
        ]
        imported = [
            f"line {node.lineno}: from time import {alias.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "time"
            for alias in node.names
            if ("time", alias.name) in CLOCKS
        ]
        return called + imported

    assert _offenders([path for path in MODULES if path != CLOCK_MODULE], read) == {}


def test_money_is_never_a_float():
    """No float() and no true division touches what is named like money."""

    def floats(path):
        tree = _tree(path)
        calls = [
            f"line {call.lineno}: float()"
            for call in _calls(tree)
            if isinstance(call.func, ast.Name)
            and call.func.id == "float"
            and any(MONEY_NAME.search(ast.unparse(argument)) for argument in call.args)
        ]
        divisions = [
            f"line {node.lineno}: /"
            for node in ast.walk(tree)
            if isinstance(node, ast.BinOp)
            and isinstance(node.op, ast.Div)
            and MONEY_NAME.search(ast.unparse(node.left))
        ]
        return calls + divisions

    assert _offenders(MODULES, floats) == {}


def test_nothing_is_left_for_later():
    """No note to do something later and no halt for debugging is in the code."""
    later = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b|breakpoint\(")
    assert _offenders(MODULES, lambda path: later.findall(path.read_text())) == {}


def test_no_machine_shows_in_the_repository():
    """No tracked file names a path of someone's machine or a package registry's host."""
    found = {}
    for path in _tracked():
        if path.suffix in TEXT_SUFFIXES and path != Path(__file__) and path.name != "LICENSE":
            hits = FOREIGN.findall(path.read_text(errors="replace"))
            if hits:
                found[_name(path)] = hits[:3]
    assert found == {}


@pytest.mark.parametrize(
    ("lock", "extra"), [("requirements.lock", "dev"), ("requirements-bench.lock", "bench")]
)
def test_the_lock_pins_every_package_with_hashes(lock, extra):
    """Each package in a lock has an exact version and at least one hash, and all we ask for are there."""
    text = (ROOT / lock).read_text()
    pinned = re.findall(r"^([a-z0-9-]+)==\S+.*?\\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)
    assert len(pinned) == len(re.findall(r"^[a-z0-9]", text, re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"][extra]]
    assert {re.match(r"[A-Za-z0-9-]+", each)[0].lower() for each in asked} <= set(pinned)


def test_each_test_says_what_the_user_gets():
    """Each test has a docstring: a sentence of behaviour."""

    def silent(path):
        tests = [node for node in _functions(_tree(path)) if node.name.startswith("test_")]
        return [node.name for node in tests if not ast.get_docstring(node)]

    assert _offenders(TEST_MODULES, silent) == {}
