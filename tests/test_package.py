"""What `import hrcam` costs and gives, and which module may import which."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hrcam

ROOT = Path(hrcam.__file__).parent
HEAVY = ("tensorflow", "keras", "matplotlib", "cv2", "sklearn", "scipy", "numpy")


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT.parent)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_import_is_cheap():
    code = f"import hrcam, sys; print([m for m in {HEAVY} if m in sys.modules])"

    done = run(code, EAGER_IMPORT="")

    assert done.stdout == "[]\n", done.stderr


def test_every_name_can_be_imported_at_once():
    """With EAGER_IMPORT, a name that the stub gives and no module has is an error."""
    done = run("import hrcam, sys; assert 'keras' in sys.modules", EAGER_IMPORT="1")

    assert done.returncode == 0, done.stderr


def stub_names():
    tree = ast.parse((ROOT / "__init__.pyi").read_text())
    return [
        alias.asname
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]


def test_names_are_those_of_the_stub():
    assert sorted(hrcam.__all__) == sorted(stub_names())
    assert set(hrcam.__all__) <= set(dir(hrcam))


@pytest.mark.parametrize("name", stub_names())
def test_name_resolves_and_is_explained(name):
    value = getattr(hrcam, name)

    assert value.__doc__
    assert len(value.__doc__.strip()) > 20
    if callable(value):
        assert value.__name__ == name
        assert any(word in value.__doc__ for word in ("Args:", "Attributes:", "; see "))


CONTRACT = """
    build_resnet50 build_vgg19 feature_layers build_hrcam_model fit_hrcam_head hr_cam
    cam grad_cam min_max_normalize load_model metrics datasets build_shallow_net
    build_deeper_net build_deconv_model attentive_response_maps export_saved_model
"""


def test_contract_names_are_there():
    assert set(CONTRACT.split()) <= set(hrcam.__all__)


def test_unknown_name():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = hrcam.no_such_name


def test_typing_files_are_there():
    assert (ROOT / "py.typed").is_file()
    assert (ROOT / "__init__.pyi").is_file()


@pytest.mark.parametrize(
    "order",
    ["import hrcam, keras", "import keras, hrcam", "import hrcam.saving, keras"],
)
def test_import_alone_makes_our_classes_known_to_keras(order, tmp_path):
    classifier = hrcam.build_small_net((16, 16, 1), filters=(4, 4))
    path = tmp_path / "deconv.keras"
    hrcam.build_deconv_model(classifier, top_n=2).save(path)

    code = f"{order}; print(type(keras.models.load_model({str(path)!r})).__name__)"
    done = run(code, EAGER_IMPORT="", TF_CPP_MIN_LOG_LEVEL="3")

    assert done.stdout.strip() == "DeconvModel", done.stderr


# -------------------------------------------------------------------- import directions

MODULES = {
    path.relative_to(ROOT.parent).with_suffix("").as_posix().replace("/", "."): path
    for path in sorted(ROOT.rglob("*.py"))
}
NUMPY_ONLY = [
    "hrcam.normalize",
    "hrcam.metrics",
    "hrcam.sanity.similarity",
    "hrcam.separation",
    "hrcam._bootstrap",
    "hrcam.statistics",
    "hrcam.sweep",
    "hrcam.sanity.similarity",
    "hrcam.separation",
    "hrcam.evaluation",
    "hrcam.plots",
    "hrcam.regions",
    "hrcam.regions._body",
    "hrcam.regions._frame",
    "hrcam.regions._letters",
    "hrcam.report.comparison",
    "hrcam._directory",
    "hrcam.report.response",
    "hrcam.report.shortcuts",
    "hrcam.shortcuts",
    "hrcam.maps.controls",
    "hrcam.imaging",
    *(f"hrcam.imaging.{path.stem}" for path in (ROOT / "imaging").glob("[a-z_]*.py")),
    "hrcam.datasets._files",
    "hrcam.datasets._polygons",
    "hrcam.datasets._table",
    "hrcam.datasets.folder",
    "hrcam.datasets.csv_table",
    "hrcam.datasets.fracatlas",
    "hrcam.datasets.imageclef",
    "hrcam.datasets.isic",
    "hrcam.datasets.mura",
    "hrcam.datasets.neuromelanin",
    "hrcam.datasets.phantom",
    "hrcam.datasets.simulated",
]


def imported(path):
    """Dotted names that a module imports, in functions as well."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return names


def uses(module, *targets):
    """Targets that a module imports, itself or by a part of them."""
    return {
        target
        for target in targets
        for name in imported(MODULES[module])
        if name == target or name.startswith(f"{target}.")
    }


@pytest.mark.parametrize("module", [m for m in NUMPY_ONLY if m in MODULES])
def test_array_code_never_imports_keras(module):
    assert not uses(module, "keras", "tensorflow")
    keras_users = [m for m in MODULES if uses(m, "keras", "tensorflow")]
    packages = {"hrcam.datasets", "hrcam.maps", "hrcam.cli"}
    assert not uses(module, *(set(keras_users) - packages))


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module):
    top = module.split(".")[1] if "." in module else ""
    if top not in ("cli", "report", "plots", ""):
        assert not uses(module, "hrcam.plots", "hrcam.report", "matplotlib")
    if top not in ("cli", "training", "runner", "serving", ""):
        assert not uses(module, "hrcam.training", "hrcam.runner", "hrcam.serving")
    if top != "cli":
        assert not uses(module, "hrcam.cli")
    if top in ("maps", "base_models", "deconvnet", "graph", "heads", "layer_selection"):
        assert not uses(module, "hrcam.datasets", "hrcam.metrics", "hrcam.evaluation")
    if top in (
        "graph",
        "heads",
        "layer_selection",
        "base_models",
        "deconvnet",
        "saving",
    ):
        assert not uses(module, "hrcam.maps")


def test_tensorflow_has_its_own_modules():
    """`keras.ops` elsewhere; tf.data is behind the public functions of datasets."""
    users = {module for module in MODULES if uses(module, "tensorflow")}

    rest = {m for m in users if not m.startswith("hrcam.datasets._")}
    rest = {m for m in rest if not m.startswith("hrcam.serving")}
    assert rest <= {"hrcam._backend", "hrcam._derivatives"}
