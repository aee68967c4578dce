"""tools/visualize.py, from the command line on the tiny data set, and what it refuses."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import REPO, write_animals
from PIL import Image
from support.runs import arguments

from fastreid_fancl.clustering import SweepRow
from fastreid_fancl.config.load import load_config
from fastreid_fancl.engine.run import command_line as train
from fastreid_fancl.engine.trained_model import load_trained_model
from fastreid_fancl.engine.trainer import Trainer
from fastreid_fancl.runs.tables import write_sweep
from fastreid_fancl.visualize import command

KINDS = ("fana", "attention", "retrieval", "clusters")


@pytest.fixture(scope="module")
def cameras(tmp_path_factory):
    """A root of data sets with `Stripes` in it, each animal from two cameras in turn; the queries are of the first."""
    root = tmp_path_factory.mktemp("cameras")
    write_animals(root / "Stripes", identity=lambda number: str(number // 6), cameras=2)
    return root


@pytest.fixture(scope="module")
def trained(cameras, tmp_path_factory):
    """The folder of a run of FANCL over two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "fancl" / "seed_0"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", os.fspath(cameras))
        train(arguments("fancl", folder))
    for path in folder.glob("model_0*.pth"):
        path.unlink()
    return folder


@pytest.fixture
def run(trained, cameras, tmp_path, monkeypatch):
    """That run, in a folder of its own, with its data set."""
    monkeypatch.setenv("FASTREID_DATASETS", os.fspath(cameras))
    return shutil.copytree(trained, tmp_path / "fancl" / "seed_0", copy_function=os.link)


def visualize(*words):
    command.command_line([os.fspath(word) for word in words])


def index(folder):
    return json.loads((folder / "pictures/index.json").read_text())


def caption(folder, *words) -> str:
    """Draw a picture and return its caption."""
    visualize(*words[:1], "--run", folder, *words[1:])
    return index(folder)[-1]["caption"]


def untrained(name, tmp_path, *opts, config=None) -> list[str]:
    """The arguments for a method's weights as they are built."""
    keys = arguments(name, tmp_path)[2:] if config is None else ["OUTPUT_DIR", os.fspath(tmp_path)]
    words = ["--config-file", config or os.fspath(REPO / f"configs/RedPanda/{name}.yml"), *keys, *opts]
    cfg = load_config(words[1], words[2:])
    torch.save(Trainer.build_model(cfg).state_dict(), tmp_path / "built.pth")
    return [*words, "MODEL.WEIGHTS", os.fspath(tmp_path / "built.pth")]


def test_the_command_runs_in_a_fresh_process_and_prints_the_picture(run):
    words = [sys.executable, os.fspath(REPO / "tools/visualize.py"), "clusters", "--run", os.fspath(run)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == os.fspath(run / "pictures/clusters_fancl_seed_0_epoch_2.png")


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_of_a_run_is_a_file_and_an_entry_that_say_of_which(run, kind):
    visualize(kind, "--run", run)
    picture = run / f"pictures/{kind}_fancl_seed_0_epoch_2.png"
    entry = index(run)[0]
    assert (entry["kind"], entry["file"]) == (kind, picture.name)
    assert "fancl, seed 0, epoch 2" in entry["caption"]
    assert "Stripes" in entry["caption"]
    assert entry["alt"]
    with Image.open(picture) as image:
        assert image.info["Description"] == entry["caption"]
        assert image.width == pytest.approx(16 / 2.54 * 200, abs=1)
        assert len(image.convert("RGB").getcolors(1 << 24)) > 100, "photographs were drawn"


def test_a_picture_drawn_again_is_the_same_file_with_one_entry(run):
    path = run / "pictures/retrieval_fancl_seed_0_epoch_2.png"
    visualize("retrieval", "--run", run)
    first = path.read_bytes()
    visualize("retrieval", "--run", run, "--hardest")
    visualize("retrieval", "--run", run)
    assert path.read_bytes() == first
    assert [entry["file"] for entry in index(run)] == ["retrieval_hardest_fancl_seed_0_epoch_2.png", path.name]


def test_pictures_go_where_the_options_say_and_name_the_run_of_the_weights(run, tmp_path):
    words = arguments("fancl", tmp_path / "elsewhere")
    visualize("fana", *words, "MODEL.WEIGHTS", run / "model_final.pth", "SEED", "3")
    assert (tmp_path / "elsewhere/pictures/fana_fancl_seed_0_epoch_2.png").exists()


def test_weights_that_are_no_checkpoint_of_a_run_are_named_by_their_file(datasets, tmp_path):
    visualize("retrieval", *untrained("resnet50", tmp_path / "."))
    assert (tmp_path / f"pictures/retrieval_{tmp_path.name}_seed_0_built.png").exists()


def test_the_mean_average_precision_of_a_retrieval_is_the_evaluations(run):
    lines = [json.loads(line) for line in (run / "metrics.json").read_text().splitlines()]
    assert f"{lines[-1]['mAP']:.1f}%." in caption(run, "retrieval")


def test_the_caption_of_a_retrieval_says_what_its_frames_mean(run):
    text = caption(run, "retrieval", "--number", "2", "--top", "15")
    assert (
        "2 of the 3 queries of Stripes, chosen by the seed, each with the 15 nearest of the 15 gallery images" in text
    )
    assert "dotted grey" in text, "of 5 gallery images of a query's animal 2 are from its camera"
    # Of a query's 15, 5 show its animal, 2 of them by the query's camera; the other 10 show the two other animals.
    assert index(run)[-1]["alt"].endswith("6 of 26 that count show the query's identity.")
    assert "lowest average precision" in caption(run, "retrieval", "--hardest")


def test_without_a_test_set_training_images_are_searched_and_no_frame_judges(run):
    text = caption(run, "retrieval", "DATASETS.TESTS", "()")
    assert "6 training images of Stripes, chosen by the seed, each with the 8 nearest of the 35 others" in text
    assert "Identities are not known" in text
    assert "green" not in text


def test_the_caption_of_fana_names_its_layers_and_its_area(run):
    text = caption(run, "fana", "--number", "2", "FANA.RATIO", "0.25")
    assert "conv1 and bn1" in text and "the 25% of the area" in text and "2 of the 36 training images" in text
    assert "after layer1.0 of" in caption(run, "fana", "FANA.LAYER", "layer1.0")
    names = ["fana_ratio_0.25_fancl_seed_0_epoch_2.png", "fana_layer1.0_fancl_seed_0_epoch_2.png"]
    assert [entry["file"] for entry in index(run)] == names, "neither is in the place of the default's"


def test_clusters_need_no_checkpoint(run):
    for path in run.glob("*.pth"):
        path.unlink()
    assert "Purity" in caption(run, "clusters")


def test_the_clusters_of_each_epoch_can_be_drawn(run):
    assert "fancl, seed 0, epoch 1," in caption(run, "clusters", "--epoch", "1")
    assert (run / "pictures/clusters_fancl_seed_0_epoch_1.png").exists()


@pytest.mark.parametrize("method", ["ice", "pplr", "jcl", "pcb", "resnet50", "densenet121"])
def test_the_pictures_of_a_network_are_drawn_for_every_method(datasets, tmp_path, method):
    words = untrained(method, tmp_path)
    for kind in ("fana", "attention"):
        visualize(kind, *words)
    assert [entry["kind"] for entry in index(tmp_path)] == ["fana", "attention"]


def test_the_pictures_of_a_network_are_drawn_for_stock_methods_too(datasets, tmp_path):
    words = untrained("mgn", tmp_path, "FANA.LAYER", "'0'", config=os.fspath(REPO / "tests/configs/mgn.yml"))
    for kind in ("fana", "attention", "retrieval"):
        visualize(kind, *words)
    assert len(index(tmp_path)) == 3


def test_where_the_margins_are_cropped_the_networks_input_is_shown(run):
    crop = ("INPUT.CROP.ENABLED", "True", "INPUT.CROP.SIZE", "[8,24]")
    assert "an input of 8 x 24 pixels" in caption(run, "attention", *crop)
    assert "input of 8 x 24 pixels" in caption(run, "fana", *crop)


def test_the_backbone_of_ice_is_its_teachers(datasets, tmp_path):
    words = untrained("ice", tmp_path)
    trained = load_trained_model(load_config(words[1], words[2:]))
    assert trained.backbone is trained.model.teacher.backbone


def test_photographs_keep_their_proportions_whatever_the_network_is_given(run, tmp_path, monkeypatch):
    folder = tmp_path / "wide/Stripes"
    for split, animal in (("train", "a"), ("query", "b"), ("gallery", "b"), ("gallery", "c")):
        (folder / split / animal).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (120, 40), (10, 200, 90)).save(folder / split / animal / f"{animal}.png")
    monkeypatch.setenv("FASTREID_DATASETS", os.fspath(tmp_path / "wide"))
    visualize("retrieval", "--run", run)
    with Image.open(run / "pictures/retrieval_fancl_seed_0_epoch_2.png") as image:
        green = (np.asarray(image.convert("RGB")) == (10, 200, 90)).all(axis=2)
    begin, end = np.flatnonzero(np.diff(green.any(axis=0).astype(int)))[:2]  # of the query, the leftmost
    assert (end - begin) / green.any(axis=1).sum() == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("retrieval", "DATASETS.TESTS", "('Strips',)"), "no data set named 'Strips'. Did you mean Stripes"),
        (("retrieval", "DATASETS.TESTS", "('Stripes','Stripes')"), "expected each name once"),
        (("attention", "DATASETS.TESTS", "()"), "Expected one test set"),
        (("retrieval", "--hardest", "DATASETS.TESTS", "()"), "needs identities"),
        (("retrieval", "TEST.RERANK.ENABLED", "True"), "TEST.RERANK.ENABLED True: set it to False"),
        (("retrieval", "MODEL.BACKBONE.DEPTH", "34x"), "does not fit FANCL: .* weights .* such as backbone.layer1.2"),
        (("retrieval", "MODEL.WEIGHTS", "nowhere.pth"), "nowhere.pth: there is no such file"),
        (("attention", "--layer", "layer3"), "that runs, such as layer3.[01]"),
        (("fana", "FANA.LAYER", "conv9"), "Expected FANA.LAYER to name a module"),
        (("fana", "FANA.LAYER", "layer1"), "does not run as a whole: name one of its parts"),
        (("fana", "FANA.RATIO"), "KEY VALUE"),
        (("clusters", "--epoch", "3"), "--epoch to be one of 1, 2, got 3"),
        (("clusters", "DATASETS.NAMES", "('Other',)"), "no data set named 'Other'"),
    ],
)
def test_wrong_input_ends_in_a_message(run, words, message):
    with pytest.raises(SystemExit, match=message):
        visualize(words[0], "--run", run, *words[1:])
    assert not (run / "pictures").exists()


def test_a_missing_run_and_one_without_a_checkpoint_say_so(run, tmp_path):
    with pytest.raises(SystemExit, match="There is no run .*nowhere"):
        visualize("fana", "--run", tmp_path / "nowhere")
    (run / "last_checkpoint").unlink()
    with pytest.raises(SystemExit, match="There are no trained weights: give MODEL.WEIGHTS"):
        visualize("fana", "--run", run)


def test_an_empty_query_set_says_so(run, tmp_path, monkeypatch):
    write_animals(tmp_path / "unqueried/Stripes")
    table = tmp_path / "unqueried/Stripes/metadata.csv"
    table.write_text(table.read_text().replace(",query", ",gallery"))
    monkeypatch.setenv("FASTREID_DATASETS", os.fspath(tmp_path / "unqueried"))
    for kind in ("retrieval", "attention"):
        with pytest.raises(SystemExit, match="has no query"):
            visualize(kind, "--run", run)


def test_an_eps_by_data_is_drawn_with_the_radii_that_it_was_chosen_from(run):
    with pytest.raises(SystemExit, match=r"There is no .*eps_sweep.csv: a run writes it with PSEUDO_LABELS.EPS auto"):
        visualize("eps", "--run", run)
    for epoch, eps in enumerate((0.3, 0.5)):
        sweep = tuple(SweepRow(radius, 4, 0.1, 0.3, 0.9, 0.8, 0.6) for radius in (0.3, 0.4, 0.5))
        write_sweep(os.fspath(run / "eps_sweep.csv"), epoch, eps, sweep)
    said = caption(run, "eps")
    assert "in 2 of 2 epochs" in said and "the radius used, over all epochs 0.3 to 0.5" in said


def test_a_supervised_run_has_no_clusters(datasets, tmp_path):
    with pytest.raises(SystemExit, match="There are no clusters in .*: .*Choose the run of an unsupervised method"):
        visualize("clusters", *arguments("pcb", tmp_path))


def test_clusters_of_other_photographs_say_how_to_find_them(run, animals, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", os.fspath(animals))
    with pytest.raises(SystemExit, match="36 of the 36 images .*: set FASTREID_DATASETS as it was"):
        visualize("clusters", "--run", run)


def test_a_feature_of_a_single_place_has_no_map(datasets, tmp_path):
    vit = {"MODEL.BACKBONE.NAME": "build_vit_backbone", "MODEL.BACKBONE.DEPTH": "small"}
    vit |= {"MODEL.BACKBONE.FEAT_DIM": "768", "MODEL.BACKBONE.STRIDE_SIZE": "[16,16]"}
    words = untrained("resnet50", tmp_path, *(word for pair in vit.items() for word in pair))
    with pytest.raises(SystemExit, match="needs a layer with a feature map"):
        visualize("attention", *words)


@pytest.mark.parametrize(("kind", "package"), [("fana", "matplotlib"), ("attention", "captum")])
def test_a_missing_package_says_how_to_install_it(run, monkeypatch, kind, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit, match=rf"Pictures need {package}: pip install 'fastreid_fancl\[report\]'"):
        visualize(kind, "--run", run)


def test_a_damaged_index_is_not_overwritten(run):
    (run / "pictures").mkdir()
    (run / "pictures/index.json").write_text("[")
    with pytest.raises(SystemExit, match="index.json cannot be read .*: remove it"):
        visualize("clusters", "--run", run)
    assert (run / "pictures/index.json").read_text() == "["
