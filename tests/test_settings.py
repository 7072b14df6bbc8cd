import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from common.catalog import CATALOG, add_models
from runners.scheduling.kv_space import KV_SHARE
from runners.scheduling.scheduler import MAX_SLOWDOWN
from settings import Settings, doubtful_settings, settings, unknown_variables

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def no_settings(monkeypatch) -> None:
    for name in os.environ:
        if name.startswith("CHATVLM_"):
            monkeypatch.delenv(name)


def test_the_descriptions_name_the_shares_that_the_runners_take():
    """Settings may not import the runners, so the numbers stand in both places."""
    described = {name: field.description for name, field in Settings.model_fields.items()}
    assert f"{KV_SHARE * 100:.0f} % of the free memory" in described["kv_budget_gib"]
    assert MAX_SLOWDOWN == 4
    assert "four times as long as the model's fastest step" in described["step_target_ms"]


def test_the_limits_of_the_contract_are_the_defaults():
    settings = Settings()
    assert settings.max_file_bytes == 10 * 2**20
    assert settings.max_files == 10
    assert settings.request_timeout == 30
    assert settings.models == ()
    assert settings.default_model is None


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("max_file_mib", "0.5", 0.5),
        ("models", "got_ocr, reader,", ("got_ocr", "reader")),
        ("models", "got_ocr,tesseract", ("got_ocr", "reader")),
        ("default_model", "tesseract", "reader"),
        (
            "cors_origins",
            "https://app.example.com, http://localhost:3000",
            ("https://app.example.com", "http://localhost:3000"),
        ),
        ("cors_origins", "*", ("*",)),
        ("root_path", "/pages/ocr/", "/pages/ocr"),
        ("root_path", "/", ""),
        ("remote", "tesseract=http://host:3000", {"reader": ("http://host:3000",)}),
        ("models", "", ()),
        (
            "upstream",
            "qwen3_vl_8b=http://host:8000/v1/, dots_ocr=https://[::1]/a/v1",
            {"qwen3_vl_8b": "http://host:8000/v1", "dots_ocr": "https://[::1]/a/v1"},
        ),
        ("upstream_names", "qwen3_vl_8b=my/qwen", {"qwen3_vl_8b": "my/qwen"}),
        ("upstream_keys", "qwen3_vl_8b=sk-a=b", {"qwen3_vl_8b": SecretStr("sk-a=b")}),
        ("preload", "dots_ocr", ("dots_ocr",)),
        ("default_model", "got_ocr", "got_ocr"),
        ("weights", "/models", Path("/models")),
        ("weights", "", None),
        ("keep_alive", "", None),
        ("devices", "got_ocr=0, qwen3_vl_8b=0+1", {"got_ocr": (0,), "qwen3_vl_8b": (0, 1)}),
        ("devices", "", {}),
        ("max_pixels_by_model", "got_ocr=4000", {"got_ocr": 4000}),
        ("remote", "", {}),
        (
            "remote",
            "got_ocr=http://got-ocr:3000, dots_ocr=http://10.0.0.7:80+http://[fd00::8]:3000",
            {
                "got_ocr": ("http://got-ocr:3000",),
                "dots_ocr": ("http://10.0.0.7:80", "http://[fd00::8]:3000"),
            },
        ),
        ("dtype", "float32", "float32"),
        ("keep_alive", "60", 60.0),
    ],
)
def test_a_setting_is_read_from_the_environment(monkeypatch, name, text, value):
    monkeypatch.setenv(f"CHATVLM_{name.upper()}", text)
    assert getattr(Settings(), name) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("max_file_mib", "0"),
        ("max_files", "-1"),
        ("max_requests", "many"),
        ("request_timeout", "0"),
        ("request_timeout", "inf"),
        ("request_timeout", "1e300"),
        ("max_image_pixels", "100000000000000000000000"),
        ("reader_processes", "100000"),
        ("models", "got_ocr,invalid_model"),
        ("preload", "invalid_model"),
        ("default_model", "invalid_model"),
        ("devices", "invalid_model=0"),
        ("devices", "got_ocr"),
        ("devices", "got_ocr="),
        ("devices", "got_ocr=-1"),
        ("devices", "got_ocr=0+"),
        ("max_pixels_by_model", "got_ocr=1"),
        ("remote", "invalid_model=http://host:3000"),
        ("cors_origins", "app.example.com"),
        ("cors_origins", "https://app.example.com/path"),
        ("root_path", "pages"),
        ("root_path", "/pages?"),
        ("remote", "got_ocr"),
        ("remote", "got_ocr=host:3000"),
        ("remote", "got_ocr=http://host"),
        ("remote", "got_ocr=http://host:3000/path"),
        ("remote", "got_ocr=http://host:99999"),
        ("remote", "got_ocr=http://user@host:3000"),
        ("remote", "got_ocr=https://host:3000"),
        ("remote", "got_ocr=http://one:3000+"),
        ("upstream", "invalid_model=http://host:8000/v1"),
        ("upstream", "got_ocr=http://host:8000/v1"),
        ("upstream", "reader=http://host:8000/v1"),
        ("upstream", "qwen3_vl_8b=host:8000/v1"),
        ("upstream", "qwen3_vl_8b=http://host:99999/v1"),
        ("upstream", "qwen3_vl_8b=http://user@host:8000/v1"),
        ("upstream", "qwen3_vl_8b=http://host:8000/v1?x=1"),
        ("upstream_keys", "qwen3_vl_8b"),
        ("upstream_keys", "invalid_model=key"),
        ("upstream_keys", "qwen3_vl_8b=a key"),
        ("dtype", "int4"),
        ("keep_alive", "0"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(monkeypatch, name, text):
    monkeypatch.setenv(f"CHATVLM_{name.upper()}", text)
    with pytest.raises(ValidationError, match=rf"(?m)^{name}\b"):
        Settings()


def test_an_unknown_model_is_answered_with_those_that_are_known():
    with pytest.raises(ValidationError, match="unknown model 'invalid_model'; known: got_ocr, "):
        Settings(default_model="invalid_model")


def test_a_service_with_wrong_settings_ends_with_a_sentence_for_each(monkeypatch):
    monkeypatch.setenv("CHATVLM_MAX_PAGES", "abc")
    monkeypatch.setenv("CHATVLM_DEFAULT_MODEL", "gpt4")
    settings.cache_clear()
    with pytest.raises(SystemExit) as ended:
        settings()
    pages, default = sorted(str(ended.value).splitlines(), reverse=True)
    assert pages.startswith("CHATVLM_MAX_PAGES: Input should be a valid integer")
    assert default.startswith("CHATVLM_DEFAULT_MODEL: unknown model 'gpt4'; known: got_ocr, ")


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("max_pages", "0", "Input should be greater than 0, got '0'."),
        ("devices", "got_ocr", "'got_ocr' is not of the form model=value."),
        (
            "remote",
            "got_ocr=http://user:secret@host:3000/x",
            "'http://…@host:3000/x' is not of the form http://host:3000.",
        ),
        (
            "upstream",
            "dots_ocr=http://user:secret@host:8000/v1",
            "'http://…@host:8000/v1' is not of the form http://host:8000/v1.",
        ),
        (
            "upstream_keys",
            "secret",
            "a part is not of the form model=key with a known model.",
        ),
        (
            "upstream",
            "reader=http://host:8000/v1",
            "'reader' is no model that such servers have; those that may be are qwen_vl_2b, "
            "qwen_vl_7b, qwen3_vl_2b, qwen3_vl_4b, qwen3_vl_8b, dots_ocr.",
        ),
    ],
)
def test_a_wrong_value_is_told_once_and_no_password_with_it(monkeypatch, name, text, sentence):
    monkeypatch.setenv(f"CHATVLM_{name.upper()}", text)
    settings.cache_clear()
    with pytest.raises(SystemExit) as ended:
        settings()
    assert str(ended.value) == f"CHATVLM_{name.upper()}: {sentence}"


@pytest.fixture
def catalog(tmp_path):
    """A file with one model, which leaves the catalog after the test."""
    file = tmp_path / "models.toml"
    file.write_text(
        '[[models]]\nid = "mine"\nfamily = "qwen_vl"\nfolder = "w"\nmax_pixels = 9000\n'
    )
    yield file
    add_models([])


def test_the_models_of_a_catalog_file_may_be_named_by_every_setting(monkeypatch, catalog):
    monkeypatch.setenv("CHATVLM_CATALOG", str(catalog))
    monkeypatch.setenv("CHATVLM_MODELS", "reader,mine")
    monkeypatch.setenv("CHATVLM_DEVICES", "mine=1")
    settings = Settings()
    assert settings.models == ("reader", "mine")
    assert settings.gpus_of("mine") == (1,)
    assert CATALOG["mine"].folder == catalog.parent / "w"


def test_a_model_of_a_catalog_file_has_the_bound_on_pixels_of_the_file(catalog):
    def bound(**given) -> int:
        settings = Settings(catalog=catalog, **given)
        return settings.max_pixels_of(CATALOG["mine"], on_gpu=True)

    assert bound() == 9000
    assert bound(max_pixels=8000) == 8000
    assert bound(max_pixels_by_model={"mine": 20_000}) == 20_000


def test_a_wrong_catalog_file_ends_the_start_with_one_sentence(monkeypatch, catalog):
    catalog.write_text('[[models]]\nid = "mine"\nfamily = "llama"\nfolder = "w"\n')
    monkeypatch.setenv("CHATVLM_CATALOG", str(catalog))
    monkeypatch.setenv("CHATVLM_MODELS", "reader,mine")
    settings.cache_clear()
    with pytest.raises(SystemExit) as ended:
        settings()
    assert str(ended.value) == (
        f"CHATVLM_CATALOG: '{catalog}', model 'mine': unknown family 'llama'; known: dots_ocr, "
        "got_ocr, qwen_vl."
    )


@pytest.mark.parametrize(
    ("model", "is_taken"), [("mine", False), ("settings", True), ("open", True)]
)
def test_a_model_of_a_catalog_file_cannot_have_a_name_that_the_service_uses(
    catalog, model, is_taken
):
    catalog.write_text(f'[[models]]\nid = "{model}"\nfamily = "qwen_vl"\nfolder = "w"\n')
    run = subprocess.run(
        [sys.executable, "-c", f"import service; print(service.RUNNERS['{model}'].name)"],
        cwd=ROOT,
        env=os.environ | {"CHATVLM_CATALOG": str(catalog)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if is_taken:
        assert run.returncode == 1
        assert f"CHATVLM_CATALOG: the service itself uses the id '{model}'" in run.stderr
    else:
        assert run.stdout == "mine\n", run.stderr


@pytest.mark.parametrize(
    ("fields", "variable"),
    [
        ({"weights": Path("/no/such/folder")}, "CHATVLM_WEIGHTS"),
        ({"tessdata": Path("/no/such/folder")}, "CHATVLM_TESSDATA"),
        ({"models": ("reader",), "default_model": "got_ocr"}, "CHATVLM_DEFAULT_MODEL"),
        ({"models": ("reader",), "preload": ("got_ocr",)}, "CHATVLM_PRELOAD"),
        (
            {"remote": {"got_ocr": ("http://host:3000",)}, "preload": ("got_ocr",)},
            "CHATVLM_PRELOAD",
        ),
        (
            {
                "remote": {"dots_ocr": ("http://host:3000",)},
                "upstream": {"dots_ocr": "http://host:8000/v1"},
            },
            "CHATVLM_UPSTREAM",
        ),
        ({"upstream_names": {"dots_ocr": "dots"}}, "CHATVLM_UPSTREAM_NAMES"),
        ({"upstream_keys": {"dots_ocr": "secret"}}, "CHATVLM_UPSTREAM_KEYS"),
    ],
)
def test_a_setting_that_can_hardly_be_meant_is_named_at_the_start(fields, variable):
    [sentence] = doubtful_settings(Settings(**fields))
    assert variable in sentence


def test_a_setting_that_can_be_meant_is_not_named(tmp_path):
    meant = {
        "weights": tmp_path,
        "models": ("reader",),
        "remote": {"got_ocr": ("http://host:3000",)},
        "default_model": "got_ocr",
        "preload": ("reader",),
        "upstream": {"dots_ocr": "http://host:8000/v1"},
        "upstream_names": {"dots_ocr": "dots"},
        "upstream_keys": {"dots_ocr": "secret"},
    }
    assert doubtful_settings(Settings(**meant)) == doubtful_settings(Settings()) == []


def test_a_model_may_have_a_bound_on_pixels_of_its_own():
    dots, qwen = CATALOG["dots_ocr"], CATALOG["qwen3_vl_2b"]
    assert Settings().max_pixels_of(dots, on_gpu=True) == 11_289_600
    assert Settings().max_pixels_of(dots, on_gpu=False) == 1_003_520
    settings = Settings(max_pixels=5_000_000, max_pixels_by_model={"qwen3_vl_8b": 20_000_000})
    assert settings.max_pixels_of(dots, on_gpu=True) == 5_000_000
    assert settings.max_pixels_of(dots, on_gpu=False) == 5_000_000
    assert settings.max_pixels_of(qwen, on_gpu=True) == qwen.max_pixels < 5_000_000
    assert settings.max_pixels_of(CATALOG["qwen3_vl_8b"], on_gpu=False) == 20_000_000
    unknown = replace(qwen, id="fine_tuned", max_pixels=None)
    assert Settings().max_pixels_of(unknown, on_gpu=True) == 1_003_520


def test_a_model_runs_on_the_gpus_of_its_setting_or_on_the_first():
    settings = Settings(devices={"got_ocr": (1, 2)})
    assert settings.gpus_of("got_ocr") == (1, 2)
    assert settings.gpus_of("dots_ocr") == (0,)


def test_every_setting_says_what_it_is():
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("CHATVLM_MODLES", "CHATVLM_MODELS"),
        ("CHATVLM_DEFAULTMODEL", "CHATVLM_DEFAULT_MODEL"),
        ("chatvlm_max_file_mb", "CHATVLM_MAX_FILE_MIB"),
        ("CHATVLM_TESSDATA_PREFIX", "CHATVLM_TESSDATA"),
    ],
)
def test_a_misspelt_variable_is_named_with_the_nearest_setting(variable, nearest):
    assert unknown_variables(["PATH", variable, nearest]) == [
        f"{variable} is not a setting and has no effect; the nearest setting is {nearest}."
    ]


def test_the_variables_of_settings_and_of_other_parts_are_known():
    assert unknown_variables(["chatvlm_models", "CHATVLMLLM_PORT", "MODELS"]) == []
    files = [
        path
        for folder in ("api", "client", "common", "deploy", "runners", "scripts")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix in {".py", ".yaml", ".env", ".md", ""}
    ]
    used = {name for path in files for name in re.findall(r"\bCHATVLM_[A-Z_]+", path.read_text())}
    assert "CHATVLM_URL" in used
    assert unknown_variables(used) == []


def test_a_misspelt_variable_is_named_when_the_service_starts():
    run = subprocess.run(
        [sys.executable, "-c", "import service; print(service.service.name)"],
        cwd=ROOT,
        env=os.environ | {"CHATVLM_MODLES": "reader"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert run.stdout == "chatvlmllm\n"
    assert run.stderr.count("CHATVLM_MODLES is not a setting") == 1
