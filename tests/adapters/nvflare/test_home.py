"""What a site keeps, the command its administrator uses, and what the allow-list must hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from nvflare.apis.fl_exception import UnsafeComponentError
from nvflare.app_common.widgets.component_path_authorizer import ComponentPathAuthorizer

import secureagg as sa
from secureagg.adapters.nvflare import Home, Terms, allow_list, write_roster
from secureagg.adapters.nvflare.__main__ import main
from secureagg.adapters.nvflare.allow_list import COMPONENTS, allow_components
from tests.adapters.nvflare.federation import terms_of
from tests.cli.test_missing_extras import BLIND


def test_an_identity_is_made_once_and_is_its_owners(folder: Path) -> None:
    home = Home(folder, "site-1")
    identity = home.identity()
    assert Home(folder, "site-1").identity().public == identity.public
    assert Home(folder, "site-2").identity().public != identity.public
    kept = folder / "local" / "secureagg" / "site-1" / "identity"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert os.listdir(kept.parent) == ["identity"]
    assert identity.to_seed().hex() not in repr(home)


@pytest.mark.parametrize("site", ["", ".", "..", "a/b"])
def test_a_site_is_one_part_of_a_path(folder: Path, site: str) -> None:
    with pytest.raises(sa.ParameterError, match="one part of a path"):
        Home(folder, site)


@pytest.mark.parametrize("job", ["", ".", "..", "a/b", "../job"])
def test_a_job_is_one_part_of_a_path(folder: Path, job: str) -> None:
    with pytest.raises(sa.ParameterError, match="one part of a path"):
        Home(folder, "site-1").job(job)


def test_a_workspace_that_cannot_be_written(folder: Path) -> None:
    (folder / "local").write_text("a file")
    with pytest.raises(sa.ParameterError, match="cannot be used"):
        Home(folder, "site-1")


def test_a_roster_file(folder: Path) -> None:
    home = Home(folder, "site-1")
    assert home.roster() is None
    publics = {"site-2": sa.Identity.generate().public, "site-1": home.identity().public}
    write_roster(folder, publics)
    assert home.roster() == publics


@pytest.mark.parametrize("text", ["", "[]", '{"site-1": 3}', '{"site-1": "00"}', '{"site-1": "zz"}', "3"])
def test_a_file_that_is_no_roster(folder: Path, text: str) -> None:
    home = Home(folder, "site-1")
    (folder / "local" / "secureagg" / "roster.json").write_text(text)
    with pytest.raises(sa.ParameterError, match="is no roster"):
        home.roster()


def test_the_administrators_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"error: .* has no directory local"):
        main(["identity", str(folder), "site-1"])
    assert not list(folder.iterdir())  # a mistyped workspace gets no identity
    (folder / "local").mkdir()
    main(["identity", str(folder), "site-1"])
    assert json.loads(capsys.readouterr().out) == {"site-1": Home(folder, "site-1").identity().public.hex()}
    main(["allow-list"])
    assert json.loads(capsys.readouterr().out) == {"class_allow_list": allow_list()}
    with pytest.raises(SystemExit, match="error: a site's name"):
        main(["identity", str(folder), ".."])
    with pytest.raises(SystemExit, match=r"error: .*local has no resources.json"):
        main(["allow-list", str(folder)])


# Terms.


@pytest.mark.parametrize("noise", [None, sa.Skellam(epsilon=3, delta=1e-6, rounds=7, noise_by="committee")])
def test_terms_come_back_from_a_jobs_json(noise: sa.Skellam | None) -> None:
    terms = terms_of(noise=noise)
    same = Terms(**json.loads(json.dumps(vars(terms))))
    assert same == terms
    assert same.mechanism() == noise


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"committee": ["a", "a"]}, "every site stands once"),
        ({"roster": "any"}, "roster is 'pinned' or 'collected'"),
        ({"noise": {"mechanism": "none"}}, "noise is no mechanism"),
    ],
)
def test_terms_that_cannot_be(change: dict[str, object], message: str) -> None:
    with pytest.raises(sa.ParameterError, match=message):
        terms_of(**change)


# NVFlare's component authoriser.


def authorised(folder: Path, classes: list[str], component: str) -> None:
    resources = folder / "resources.json"
    resources.write_text(json.dumps({"class_allow_list": classes}))

    class Workspace:
        def get_resources_file_path(self) -> str:
            return str(resources)

        def get_root_dir(self) -> str:
            return str(folder)

    ComponentPathAuthorizer().authorize_component_config({"path": component, "args": {}}, workspace=Workspace())


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_allow_list_has_what_jobs_build(folder: Path, component: str) -> None:
    module, _, name = component.rpartition(".")
    assert getattr(import_module(module), name).__module__ == module
    authorised(folder, allow_list(), component)
    with pytest.raises(UnsafeComponentError, match="not in allow_list"):
        authorised(folder, [each for each in allow_list() if each not in COMPONENTS], component)


@pytest.mark.parametrize("name", ["resources.json", "resources.json.default"])
@pytest.mark.parametrize("listed", [None, ["numpy.", COMPONENTS[1]]])
def test_the_command_adds_to_the_list_and_leaves_the_rest(
    folder: Path, name: str, listed: list[str] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, object] = {"format_version": 2, "client": {"retry_timeout": 30}}
    before = {**settings, **({"class_allow_list": listed} if listed else {})}
    (folder / "local").mkdir()
    (folder / "local" / "resources.json.default").write_text('{"format_version": 1}')
    (folder / "local" / name).write_text(json.dumps(before))
    for _ in range(2):  # the second time there is nothing to add
        main(["allow-list", str(folder)])
        changed = json.loads((folder / "local" / "resources.json").read_text())
        allowed = changed.pop("class_allow_list")
        assert changed == settings
        assert allowed == (allow_list() if listed is None else [*listed, COMPONENTS[0], COMPONENTS[2]])
    assert "resources.json allows secureagg's classes" in capsys.readouterr().out
    assert sorted(os.listdir(folder / "local")) == ["resources.json", "resources.json.default"]


@pytest.mark.parametrize("text", ["", "[]", '{"class_allow_list": "*"}', '{"class_allow_list": {}}', "3"])
def test_settings_that_are_none_stay_as_they_are(folder: Path, text: str) -> None:
    (folder / "local").mkdir()
    resources = folder / "local" / "resources.json"
    resources.write_text(text)
    with pytest.raises(sa.ParameterError, match="cannot be read, or its class_allow_list is no list"):
        allow_components(folder)
    assert resources.read_text() == text and os.listdir(folder / "local") == ["resources.json"]


def test_the_allow_list_has_nothing_else_of_ours(folder: Path) -> None:
    with pytest.raises(UnsafeComponentError, match="not in allow_list"):
        authorised(folder, allow_list(), "secureagg.adapters.nvflare.site.Site")


def test_without_nvflare_one_line_says_what_to_install() -> None:
    program = f"import sys\n{BLIND.format(package='nvflare')}\nimport secureagg.adapters.nvflare"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    last = ran.stderr.splitlines()[-1]
    assert last.endswith("nvflare is not installed; run: pip install 'secureagg[nvflare]'")
