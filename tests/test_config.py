from pathlib import Path

import pytest
import torch

from fastreid_fancl import add_fancl_config, load_config
from fastreid_fancl.compare.study import read_study
from fastreid_fancl.config import load, page
from fastreid_fancl.config.access import value_of
from fastreid_fancl.config.keys import KEYS
from fastreid_fancl.config.ranges import OneOf, Range, Text, WordOrRange

from fastreid.config import get_cfg  # isort: skip

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


FILES = sorted(path for path in CONFIGS.rglob("*.yml") if path.parent.name != "studies")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_configuration_loads(path):
    load_config(str(path))


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES if path.parent.name != "systems"}))
def test_every_folder_of_configurations_has_its_base(folder):
    assert (folder / "Base.yml").exists()


@pytest.mark.parametrize("name", ["fancl", "cluster_contrast", "resnet50"])
def test_red_panda_is_trained_in_the_settings_of_the_paper(name):
    # Section IV-B: ResNet-50, 128 x 256 (H x W), Adam, 60 epochs, 3.5e-4 divided by 10 every 20, batch 64.
    cfg = load_config(str(CONFIGS / f"RedPanda/{name}.yml"))
    assert (cfg.MODEL.BACKBONE.DEPTH, cfg.MODEL.BACKBONE.FEAT_DIM, cfg.MODEL.BACKBONE.PRETRAIN) == ("50x", 2048, True)
    assert cfg.INPUT.SIZE_TRAIN == cfg.INPUT.SIZE_TEST == [128, 256]
    assert (cfg.INPUT.FLIP.ENABLED, cfg.INPUT.PADDING.ENABLED, cfg.INPUT.PADDING.SIZE) == (True, True, 10)
    assert (cfg.SOLVER.OPT, cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY) == ("Adam", 0.00035, 0.0005)
    assert (cfg.SOLVER.MAX_EPOCH, cfg.SOLVER.STEPS, cfg.SOLVER.GAMMA, cfg.SOLVER.IMS_PER_BATCH) == (
        60,
        [20, 40],
        0.1,
        64,
    )


@pytest.mark.parametrize("name", ["fancl", "cluster_contrast"])
def test_pseudo_labels_and_memories_have_the_values_of_the_paper(name):
    cfg = load_config(str(CONFIGS / f"RedPanda/{name}.yml"))
    assert (cfg.MEMORY.TEMPERATURE, cfg.MEMORY.MOMENTUM, cfg.DATALOADER.NUM_INSTANCE) == (0.05, 0.1, 4)
    labels = cfg.PSEUDO_LABELS
    assert (labels.ALGORITHM, labels.K1, labels.K2, labels.EPS, labels.MIN_SAMPLES) == ("dbscan", 30, 6, 0.5, 4)


def test_the_device_is_found_unless_named():
    assert ("cuda" if torch.cuda.is_available() else "cpu") == load_config().MODEL.DEVICE
    assert load_config(opts=["MODEL.DEVICE", "cpu"]).MODEL.DEVICE == "cpu"


@pytest.mark.parametrize("eps", ["auto", 0.4])
def test_eps_is_a_number_or_auto_from_a_file_and_from_the_command_line(tmp_path, eps):
    other = tmp_path / "other.yml"
    other.write_text(f"PSEUDO_LABELS:\n  EPS: {0.7 if eps == 'auto' else 'auto'}\n")
    assert eps == load_config(str(other), ["PSEUDO_LABELS.EPS", str(eps)]).PSEUDO_LABELS.EPS


def test_a_whole_number_is_a_learning_rate_too():
    assert load_config(opts=["SOLVER.BASE_LR", "1"]).SOLVER.BASE_LR == 1.0


def test_a_misspelt_key_in_a_file_is_named_with_the_nearest_known_one(tmp_path):
    path = tmp_path / "wrong.yml"
    path.write_text("PSEUDO_LABELS:\n  EPSS: 0.4\n")
    with pytest.raises(ValueError, match=r"Unknown configuration key .*EPSS'\. Did you mean .*PSEUDO_LABELS\.EPS"):
        load_config(str(path))


def test_a_misspelt_option_is_named_with_the_nearest_known_one():
    with pytest.raises(ValueError, match=r"MEMORY\.MOMENTUMS.*MEMORY\.MOMENTUM\b"):
        load_config(opts=["MEMORY.MOMENTUMS", "0.2"])


def test_an_option_without_a_value_is_refused():
    with pytest.raises(ValueError, match="KEY VALUE"):
        load_config(opts=["MEMORY.MOMENTUM"])


def test_a_value_of_the_wrong_type_is_refused():
    with pytest.raises(ValueError, match=r"SOLVER\.MAX_EPOCH"):
        load_config(opts=["SOLVER.MAX_EPOCH", "many"])


def test_a_missing_file_is_named():
    with pytest.raises(ValueError, match=r"nowhere\.yml"):
        load_config("nowhere.yml")


@pytest.mark.parametrize("text", ["MODEL: {", "MODEL:\n\tWEIGHTS: a", "- a", ""])
def test_a_file_that_is_no_configuration_is_named(tmp_path, text):
    path = tmp_path / "broken.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"broken\.yml"):
        load_config(str(path))


def test_all_wrong_values_are_named_at_once():
    with pytest.raises(ValueError, match=r"(?s)PSEUDO_LABELS\.EPS 'tight'.*MEMORY\.UPDATE 'soft'.*FANA\.RATIO 1\.5"):
        load_config(opts=["PSEUDO_LABELS.EPS", "tight", "MEMORY.UPDATE", "soft", "FANA.RATIO", "1.5"])


@pytest.mark.parametrize(
    ("features", "expected"),
    [({"avx512f": True, "avx512bf16": False}, "float32"), ({"avx512bf16": True}, "bfloat16"), ({}, "float32")],
)
def test_backbones_run_in_bfloat16_where_the_processor_has_it(monkeypatch, features, expected):
    monkeypatch.setattr(load, "get_host_cpu_features", lambda: features)
    assert expected == load_config(opts=["MODEL.DEVICE", "cpu"]).MODEL.PRECISION
    assert load_config(opts=["MODEL.DEVICE", "cpu", "MODEL.PRECISION", "float32"]).MODEL.PRECISION == "float32"


def test_two_kinds_of_mixed_precision_are_refused_or_avoided(monkeypatch):
    monkeypatch.setattr(load, "get_host_cpu_features", lambda: {"avx512bf16": True})
    assert load_config(opts=["MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", True]).MODEL.PRECISION == "float32"
    with pytest.raises(ValueError, match="MODEL.PRECISION 'bfloat16': expected float32 beside SOLVER.AMP"):
        load_config(opts=["MODEL.PRECISION", "bfloat16", "SOLVER.AMP.ENABLED", True])


def test_a_single_name_stands_for_a_list_of_one():
    cfg = load_config("configs/RedPanda/fancl.yml", ["DATASETS.NAMES", "my_lynxes", "MODEL.FREEZE_LAYERS", "backbone"])
    assert (cfg.DATASETS.NAMES, cfg.MODEL.FREEZE_LAYERS) == (("my_lynxes",), ["backbone"])
    with pytest.raises(ValueError, match="Type mismatch"):
        load_config("configs/RedPanda/fancl.yml", ["DATASETS.NAMES", "('my_lynxes'"])
    with pytest.raises(ValueError, match="Type mismatch"):
        load_config("configs/RedPanda/fancl.yml", ["INPUT.SIZE_TRAIN", "128x256"])


def test_folders_named_by_a_number_are_words():
    options = ["DATASETS.NAMES", "2024", "DATASETS.TESTS", "2024_05", "OUTPUT_DIR", "2024", "SEED", "3"]
    cfg = load_config(opts=options)
    assert (cfg.DATASETS.NAMES, cfg.DATASETS.TESTS, cfg.OUTPUT_DIR, cfg.SEED) == (("2024",), ("2024_05",), "2024", 3)


@pytest.mark.parametrize("names", ["2024", "[2024]", "(2024,)", "'2024'"])
def test_folders_named_by_a_number_are_words_in_a_file(tmp_path, names):
    (tmp_path / "own.yml").write_text(f"DATASETS:\n  NAMES: {names}\n")
    assert load_config(str(tmp_path / "own.yml")).DATASETS.NAMES == ("2024",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("SOLVER:\n  BASE_LR:\n", "SOLVER.BASE_LR"),
        ("_BASE_: own.yml\n", r"own\.yml"),
        ("OUTPUT_DIR: b\xe4r\n", r"own\.yml"),
    ],
)
def test_a_file_without_a_value_that_is_its_own_base_or_no_utf8_is_told(tmp_path, content, said):
    (tmp_path / "own.yml").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=said):
        load_config(str(tmp_path / "own.yml"))


@pytest.mark.parametrize(
    "options",
    [
        ["PSEUDO_LABELS.ALGORITHM", "hdbscan", "PSEUDO_LABELS.MIN_SAMPLES", "1"],
        ["MODEL.META_ARCHITECTURE", "SpCL", "PSEUDO_LABELS.EPS", "0.98", "SPCL.GAP", "0.04"],
        ["MODEL.META_ARCHITECTURE", "SpCL", "PSEUDO_LABELS.EPS", "0.01"],
    ],
)
def test_values_that_would_stop_the_first_clustering_are_refused(options):
    with pytest.raises(ValueError, match=r"MIN_SAMPLES|SPCL\.GAP"):
        load_config(opts=options)


def test_a_flag_behind_the_options_is_told():
    with pytest.raises(ValueError, match="--resume comes after"):
        load_config(opts=["SEED", 1, "--resume"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SOLVER:\n  BASE_LR: 0.1\nSOLVER:\n  MAX_EPOCH: 3\n", r"own\.yml has keys twice: SOLVER .lines 1 and 3."),
        ("SEED: 1\nSEED: 1\n", "SEED .lines 1 and 2."),
        ("INPUT:\n  FLIP: {PROB: 0.1, PROB: 0.2}\n", r"INPUT\.FLIP\.PROB .lines 2 and 2."),
        ('"SEED": 1\nMODEL: {DEVICE: cpu}\nSEED: 2\n', "SEED .lines 1 and 3."),
        ("MODEL:\n  HEADS:\n    NORM: BN\n  HEADS:\n    NAME: A\n", r"MODEL\.HEADS .lines 2 and 4."),
    ],
)
def test_keys_and_sections_that_are_there_twice_are_refused(tmp_path, text, said):
    (tmp_path / "own.yml").write_text(text)
    (tmp_path / "upper.yml").write_text("_BASE_: own.yml\nSEED: 3\n")
    for name in ("own", "upper"):  # of the base too, whatever the file above it says
        with pytest.raises(ValueError, match=said):
            load_config(str(tmp_path / f"{name}.yml"))


def test_a_key_may_be_in_several_sections_and_in_a_base(tmp_path):
    (tmp_path / "base.yml").write_text("MODEL: {HEADS: {NORM: GN}, BACKBONE: {NORM: GN}}\nSEED: 1\n")
    (tmp_path / "own.yml").write_text("_BASE_: base.yml\nSEED: 2\n")
    cfg = load_config(str(tmp_path / "own.yml"))
    assert (cfg.SEED, cfg.MODEL.HEADS.NORM, cfg.MODEL.BACKBONE.NORM) == (2, "GN", "GN")


def test_a_file_that_is_nested_or_refers_to_itself_ends(tmp_path):
    (tmp_path / "own.yml").write_text("MODEL: &a\n  BACKBONE: *a\n")
    with pytest.raises(ValueError):
        load_config(str(tmp_path / "own.yml"))
    (tmp_path / "own.yml").write_text("SEED: " + "[" * 5000 + "]" * 5000)
    with pytest.raises(ValueError, match=r"own\.yml"):
        load_config(str(tmp_path / "own.yml"))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("PSEUDO_LABELS.BLOCK_GIB", "1e999", "finite"),
        ("PSEUDO_LABELS.BLOCK_GIB", "1e300", r"at most 2\*\*20"),
        ("MEMORY.TEMPERATURE", "1e999", "finite"),
        ("JCL.INSTANCE_WEIGHT", "-1e999", "finite"),
        ("DATALOADER.CACHE_GIB", "1e400", "finite"),
        ("SEED", str(2**40), "at most 4294967295"),
        ("PSEUDO_LABELS.K1", str(10**30), "at most 4294967295"),
        ("INPUT.BLUR.SIGMA", "[0.1, 1e999]", "finite"),
        ("INPUT.BLUR.SIGMA", "['a', 'b']", "lowest, highest"),
        ("SOLVER.STEPS", f"[1, {10**30}]", "at most 4294967295"),
    ],
)
def test_numbers_that_no_setting_can_have_are_named(key, value, said):
    with pytest.raises(ValueError, match=f"{key} .*{said}"):
        load_config(opts=[key, value])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("IMPORTS", "[7]"), ("IMPORTS", "[None]"), ("IMPORTS", "['']"), ("IMPORTS", "[['a.py']]")),
        *(("DATASETS.NAMES", "[1.5]"), ("DATASETS.TESTS", "[['d']]"), ("DATASETS.NAMES", "[None]")),
        *(("MODEL.FREEZE_LAYERS", "[3]"), ("KD.MODEL_CONFIG", "[{}]"), ("MODEL.LOSSES.NAME", "[True]")),
    ],
)
def test_lists_of_names_hold_names(key, value):
    with pytest.raises(ValueError, match=f"{key} .*expected names"):
        load_config(opts=[key, value])


@pytest.mark.parametrize("name", [".", "..tools", ".mine"])
def test_a_relative_module_is_refused(name):
    with pytest.raises(ValueError, match="IMPORTS .*not a relative one"):
        load_config(opts=["IMPORTS", f"['{name}']"])


@pytest.mark.parametrize("names", ["('d','d')", "('d','e','d')", "('d','d/')", "('d','./d')"])
@pytest.mark.parametrize("key", ["DATASETS.NAMES", "DATASETS.TESTS"])
def test_a_data_set_that_is_named_twice_is_refused(key, names):
    with pytest.raises(ValueError, match=f"{key} .*expected each name once"):
        load_config(opts=[key, names])


def test_a_study_with_a_variant_twice_is_refused(tmp_path):
    (tmp_path / "own.yml").write_text("VARIANTS:\n  a: {SEED: 1}\n  a: {SEED: 2}\n")
    with pytest.raises(ValueError, match=r"VARIANTS\.a .lines 2 and 3."):
        read_study(tmp_path / "own.yml")


def write_files(folder: Path, **contents: str) -> None:
    for name, text in contents.items():
        (folder / f"{name}.yml").write_text(text)


def test_bases_merge_in_their_order_and_the_file_wins(tmp_path):
    write_files(
        tmp_path,
        first="SEED: 1\nFANA: {RATIO: 0.2, LAYER: conv1}\nMEMORY: {UPDATE: hard}\n",
        below="SEED: 7\nSPCL: {GAP: 0.01}\n",
        second="_BASE_: below.yml\nSEED: 2\nFANA: {RATIO: 0.3}\n",
        own="_BASE_: [first.yml, second.yml]\nSEED: 3\n",
    )
    cfg = load_config(str(tmp_path / "own.yml"))
    # SEED 1 < 7 < 2 < 3; RATIO 0.2 < 0.3; LAYER and UPDATE are the first's alone, GAP the one's below the second.
    assert (cfg.SEED, cfg.FANA.RATIO, cfg.FANA.LAYER, cfg.MEMORY.UPDATE, cfg.SPCL.GAP) == (
        3,
        0.3,
        "conv1",
        "hard",
        0.01,
    )


def test_bases_lie_relative_to_the_file_that_names_them(tmp_path, monkeypatch):
    (tmp_path / "systems").mkdir()
    (tmp_path / "lynxes").mkdir()
    write_files(tmp_path, shared="SEED: 4\n")
    write_files(tmp_path / "systems", own="_BASE_: [../shared.yml]\nFANA: {RATIO: 0.4}\n")
    write_files(tmp_path / "lynxes", own="_BASE_: [../systems/own.yml]\n")
    monkeypatch.chdir(tmp_path / "lynxes")
    assert (load_config("own.yml").SEED, load_config("own.yml").FANA.RATIO) == (4, 0.4)


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        ({"own": "_BASE_: [a.yml, own.yml]\n", "a": "SEED: 1\n"}, r"own\.yml is a _BASE_ of itself"),
        ({"own": "_BASE_: [a.yml]\n", "a": "_BASE_: own.yml\n"}, r"itself: .*own\.yml -> .*a\.yml -> .*own\.yml"),
        ({"own": "_BASE_: [gone.yml]\n"}, r"There is no configuration file .*gone\.yml.*_BASE_ of .*own\.yml"),
        ({"own": "_BASE_: 3\n"}, r"_BASE_ of .*own\.yml to be a path or a list of paths, got 3"),
        ({"own": "_BASE_: [a.yml, 3]\n", "a": ""}, "a path or a list of paths"),
        ({"own": "_BASE_: [a.yml, b.yml]\n", "a": "SEED: 1\n", "b": ""}, r"b\.yml is not a configuration file"),
        ({"own": "_BASE_: [a.yml, b.yml]\n", "a": "SEED: 1\n", "b": "SEED: 1\nSEED: 2\n"}, r"b\.yml has keys twice"),
        (
            {"own": "_BASE_: [a.yml, b.yml]\n", "a": "FANA: 1\n", "b": "FANA: {RATIO: 1}\n"},
            r"b\.yml has a section FANA",
        ),
    ],
)
def test_bases_that_cannot_be_merged_are_named(tmp_path, contents, said):
    write_files(tmp_path, **contents)
    with pytest.raises(ValueError, match=said):
        load_config(str(tmp_path / "own.yml"))


def test_a_base_may_be_reached_by_two_ways(tmp_path):
    write_files(
        tmp_path, root="SEED: 5\n", a="_BASE_: root.yml\n", b="_BASE_: root.yml\n", own="_BASE_: [a.yml, b.yml]\n"
    )
    assert load_config(str(tmp_path / "own.yml")).SEED == 5


def test_a_stock_configuration_of_fast_reid_may_have_several_bases_too(tmp_path):
    write_files(tmp_path, a="SOLVER: {MAX_EPOCH: 7}\n", own="_BASE_: [a.yml]\nSOLVER: {OPT: SGD}\n")
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "own.yml"))
    assert (cfg.SOLVER.MAX_EPOCH, cfg.SOLVER.OPT) == (7, "SGD")


def test_the_page_of_the_docs_has_the_keys_as_they_are():
    text = page.PAGE.read_text(encoding="utf-8")
    assert text == page.with_tables(text), "run python -m fastreid_fancl.config.page"


def test_a_page_without_its_markers_is_refused():
    with pytest.raises(ValueError, match="Expected the lines <!-- keys: begin -->"):
        page.with_tables("# Configuration\n")


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_every_default_is_valid_and_is_the_configuration(key):
    cfg = get_cfg()
    add_fancl_config(cfg)
    assert key.valid.holds(key.default)
    assert value_of(cfg, key.name) == key.default
    assert sum(other.name == key.name for other in KEYS) == 1


def test_defaults_of_two_configurations_are_not_shared():
    first, second = get_cfg(), get_cfg()
    add_fancl_config(first)
    add_fancl_config(second)
    first.INPUT.BLUR.SIGMA.append(3.0)
    assert second.INPUT.BLUR.SIGMA == [0.1, 2.0]


@pytest.mark.parametrize(
    ("rule", "right", "wrong", "words"),
    [
        (Range(0, 0.05, open_high=True), [0, 0.02], [0.05, -1, "0"], "at least 0, below 0.05"),
        (Range(0, 1, open_low=True, open_high=True), [0.5], [0, 1], "above 0, below 1"),
        (OneOf("a", "b", "c"), ["a", "c"], ["d", ["a"]], "a, b or c"),
        (WordOrRange("auto", Range(1)), ["auto", 1], ["other", 0], "auto or at least 1"),
        (Text("a name"), ["x", ()], [1, None], "a name"),
    ],
    ids=str,
)
def test_a_rule_holds_what_it_says(rule, right, wrong, words):
    assert all(map(rule.holds, right)) and not any(map(rule.holds, wrong))
    assert str(rule) == words


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("SPCL.GAP", "0.05", "at least 0, below 0.05"),
        ("PARTS.AXIS", "depth", "height or width"),
        ("PPLR.CAMERA_WEIGHT", "-1.0", r"0 \(no contrast between cameras\) or more"),
        ("PSEUDO_LABELS.EPS", "1", "auto or between 0 and 1"),
        ("PSEUDO_LABELS.DEVICE", "cuda:7", "empty, cpu or MODEL.DEVICE"),
        ("MODEL.BACKBONE.TIMM", "resnet18", "empty, or with NAME build_timm_backbone"),
        ("ICE.CAMERA_NEGATIVES", "-1", "at least 0"),
        ("DATALOADER.NUM_INSTANCE", "0", "at least 1"),
    ],
)
def test_a_value_out_of_its_range_is_named_with_what_was_expected(key, value, said):
    with pytest.raises(ValueError, match=f"{key} .*: expected {said}"):
        load_config(opts=["MODEL.DEVICE", "cpu", key, value])
