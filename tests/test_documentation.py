"""The documentation is executed, and held against the package: options, reasons, columns, modules, links, citation."""

import json
import re
import shlex
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

import scalselect
from build_demo import build_demo
from scalselect import cli, command_options
from scalselect.config import RunConfig
from scalselect.dataset.selected_writer import SELECTED_ROWS_SCHEMA
from scalselect.diagnose_work import diagnose
from scalselect.records import Reason
from scalselect.row_tables import ROWS_SCHEMA
from scalselect.scores_file import SCORES_SCHEMA
from small_diagnoses import material, two_clusters, write_run

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "scalselect"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS]

EXECUTED = re.compile(r"^<!-- executed -->\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OF_ANOTHER_PROGRAM = re.compile(r"^<!-- another program -->\n```\w+\n.*?^```$", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9_-]*")
LINK = re.compile(r"\]\((?![a-z]+:)([^)#\s]*)(#[^)\s]+)?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
TABLE_ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \|", re.MULTILINE)
FEWEST_EXECUTED = {
    "README.md": 2,
    "check.md": 1,
    "command-line.md": 2,
    "diagnostics.md": 3,
    "formats.md": 3,
    "plots.md": 3,
    "python.md": 8,
    "report.md": 2,
    "run-folder.md": 4,
    "scale.md": 1,
    "scoring.md": 2,
    "strategies.md": 1,
    "trainers.md": 1,
    "training.md": 5,
}


def name(page):
    return page.name


def parser_options():
    """Return every option of every command."""
    parsers = [command_options.build_parser()]
    options = set()
    for parser in parsers:
        for action in parser._actions:
            options.update(option for option in action.option_strings if option.startswith("--"))
            if isinstance(action.choices, dict):
                parsers.extend(action.choices.values())
    return options


def unknown_options(text, known):
    return sorted(set(OPTION.findall(OF_ANOTHER_PROGRAM.sub("", text))) - set(known))


def command_lines(block):
    """Return the commands of a bash block, their continuation lines joined."""
    lines = [line.strip() for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def broken_links(page, text):
    broken = []
    for path, anchor in LINK.findall(text):
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor[1:] not in anchors(target)):
            broken.append(path + anchor)
    return broken


def anchors(page):
    titles = HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def section(text, title):
    """Return the text under a heading of the second level."""
    return text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def keys_of(content):
    """Return the keys of a JSON object and of the objects in it, two levels deep."""
    inner = {key for value in content.values() if isinstance(value, dict) for key in value}
    return set(content) | inner


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("documentation") / "demo"
    build_demo(folder, rows=150)
    return folder


@pytest.fixture
def beside_demo(demo, tmp_path, monkeypatch):
    """Stand in a new folder that holds a demo without runs."""
    shutil.copytree(demo, tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def execute(text, page):
    """Run the marked blocks of a page in order, as a reader would, and return how many there were."""
    namespace = {"__name__": page.stem}
    blocks = EXECUTED.findall(text)
    for language, block in blocks:
        if language == "python":
            exec(compile(block, str(page), "exec"), namespace)
        else:
            assert language == "bash", language
            for line in command_lines(block):
                program, *arguments = shlex.split(line)
                assert program == "scalselect", line
                assert cli.main(arguments) == 0, line
    return len(blocks)


@pytest.mark.parametrize("page", [page for page in PAGES if "<!-- executed -->" in page.read_text("utf-8")], ids=name)
def test_marked_blocks_run(page, beside_demo):
    text = page.read_text(encoding="utf-8")
    executed = execute(text, page)
    assert executed == text.count("<!-- executed -->")
    assert executed >= FEWEST_EXECUTED[page.name]


def test_pages_that_are_executed():
    marked = {page.name for page in PAGES if "<!-- executed -->" in page.read_text("utf-8")}
    assert marked == set(FEWEST_EXECUTED)


def test_execution_can_fail(beside_demo):
    page = Path("page.md")
    with pytest.raises(AssertionError):
        execute("<!-- executed -->\n```bash\nscalselect score demo\n```\n", page)
    with pytest.raises(AssertionError):
        execute("<!-- executed -->\n```bash\nmake demo\n```\n", page)
    with pytest.raises(ZeroDivisionError):
        execute("<!-- executed -->\n```python\n1 / 0\n```\n", page)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_options_named_exist(page):
    assert unknown_options(page.read_text(encoding="utf-8"), parser_options()) == []


def test_option_check_can_fail():
    text = "Give `--budget` and `--atention-mass 0.9`.\n\n<!-- another program -->\n```bash\nx --data_path y\n```\n"
    assert unknown_options(text, parser_options()) == ["--atention-mass"]
    assert unknown_options(text.replace("<!-- another program -->\n", ""), parser_options()) == [
        "--atention-mass",
        "--data_path",
    ]


def test_every_option_is_explained():
    named = set(OPTION.findall((ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")))
    assert parser_options() - {"--help"} <= named
    assert {"--budget", "--media-dir", "--version"} <= parser_options()


def test_toml_example_is_accepted():
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    options = {key.replace("-", "_"): value for key, value in tomllib.loads(example).items()}
    assert RunConfig.from_options(options).represent.shard_size == 500


def test_every_reason_is_explained():
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", section(page, "Reasons"), re.MULTILINE)
    assert rows == [str(reason) for reason in Reason]


@pytest.mark.parametrize(
    ("title", "schema"),
    [
        ("scores.parquet", SCORES_SCHEMA),
        ("rows.parquet", ROWS_SCHEMA),
        ("Several data sets", SELECTED_ROWS_SCHEMA),
    ],
)
def test_every_column_is_explained_with_its_type(title, schema):
    page = (ROOT / "docs" / "run-folder.md").read_text(encoding="utf-8")
    written = dict(TABLE_ROW.findall(section(page, title)))
    actual = {field.name: re.sub(r"list<\w+: (\w+)>", r"list of \1", str(field.type)) for field in schema}
    assert list(written) == list(actual)
    assert written == actual


def test_every_key_is_explained(beside_demo):
    page = (ROOT / "docs" / "run-folder.md").read_text(encoding="utf-8")
    arguments = ["demo/pool.json", "--model", "demo/checkpoint", "--budget", "16%", "--output", "run"]
    assert cli.main(["run", *arguments]) == 0
    options = {option.removeprefix("--").replace("-", "_") for option in parser_options()}
    for title, path in {
        "selection.json": Path("run/selection.json"),
        "run.json": Path("run/run.json"),
        "shard-*.json": Path("run/representations/shard-0000000.json"),
    }.items():
        content = json.loads(path.read_bytes())
        for data in ("files", "versions", "skipped", "reasons", "counts"):  # their keys are file names, words and such
            if data in content:
                content[data] = None
        words = set(re.findall(r"`(\w+)`", section(page, title)))
        assert keys_of(content) - words - options == set(), title


def all_keys(content):
    """Return the keys of JSON at any depth."""
    if isinstance(content, list):
        return {key for item in content for key in all_keys(item)}
    if not isinstance(content, dict):
        return set()
    return set(content) | {key for value in content.values() for key in all_keys(value)}


def keys_in_tables(text):
    """Return what stands in the first column of the tables of a text."""
    return {
        key for row in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", text, re.MULTILINE) for key in row.split("`")[1::2]
    }


def test_every_measure_is_explained_and_no_other(tmp_path):
    page = (ROOT / "docs" / "diagnostics.md").read_text(encoding="utf-8")
    X = two_clusters(60)
    given = material(write_run(tmp_path / "run", X), X, range(10))
    strata = pa.array(["odd" if row % 2 else "even" for row in range(60)])
    place = given.table.schema.get_field_index("stratum")
    content = diagnose(replace(given, table=given.table.set_column(place, "stratum", strata)))
    explained = section(page, "diagnostics.json")
    assert all_keys(content) - set(re.findall(r"`(\w+)`", explained)) == set()
    assert keys_in_tables(explained) - all_keys(content) == set()


def test_every_key_of_a_comparison_is_explained_and_no_other(beside_demo, capsys):
    page = (ROOT / "docs" / "diagnostics.md").read_text(encoding="utf-8")
    arguments = ["demo/pool.json", "--model", "demo/checkpoint", "--budget", "16%", "--output"]
    assert cli.main(["run", *arguments, "a"]) == 0
    capsys.readouterr()
    assert cli.main(["compare", "a", "a", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    explained = section(page, "Comparing two runs")
    assert all_keys(content) - set(re.findall(r"`(\w+)`", explained)) == set()
    assert keys_in_tables(explained) == set(content)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_resolve(page):
    assert broken_links(page, page.read_text(encoding="utf-8")) == []


def test_link_check_can_fail():
    text = "[a](LICENSE) [b](docs/nothing.md) [c](docs/method.md#no-such-title) [d](https://example.org)"
    assert broken_links(ROOT / "README.md", text) == ["docs/nothing.md", "docs/method.md#no-such-title"]


def test_architecture_names_every_module_and_no_other():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([\w/]+\.py)` \|", page, re.MULTILINE)
    modules = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py")}
    packages = {module for module in modules if module.endswith("/__init__.py")}
    assert sorted(listed) == sorted(modules - packages)
    for package in packages:
        assert f"`{package.removesuffix('__init__.py')}`" in page


def test_citation():
    content = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert content["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "type", "license", "references"} <= content.keys()
    assert content["version"] == scalselect.__version__
    (paper,) = content["references"]
    assert {"type", "title", "authors", "year"} <= paper.keys()
    assert "2602.11636" in paper["url"]


def test_the_number_of_tested_families_is_right():
    from scalselect.vlm.refusals import TESTED_FAMILIES

    assert f"{len(TESTED_FAMILIES)} model families" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_changelog_names_the_version():
    assert f"## [{scalselect.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
