"""Every key that this package adds to fast-reid's configuration. Defaults, checks and the docs' tables come from here.

Default values, symbols and equation numbers follow the FANCL paper; the section of another system follows that system's
paper.
"""

from dataclasses import dataclass

from ..batchnorm import MODES
from ..clustering.neighbors.search import SEARCHES
from ..compat.config import NUMBER_OR_WORD
from .ranges import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, SWITCH, OneOf, Range, Rule, Text, WordOrRange

SMOOTHING = "share of a target that is spread over all clusters"


@dataclass(frozen=True)
class Key:
    """A key.

    Attributes:
        name: of all its parts, such as "FANA.RATIO".
        default: its value unless the user sets it.
        meaning: what it does, with the paper's symbol and the unit, in Markdown.
        valid: the values that it may have, whatever else is set.
    """

    name: str
    default: object
    meaning: str
    valid: Rule


SECTIONS: dict[str, tuple[Key, ...]] = {
    "Runs, data and devices": (
        Key("SEED", 0, "seed of every random choice: weights, batches, augmentation, drawn data sets", NOT_NEGATIVE),
        Key(
            "IMPORTS",
            (),
            "your own Python files or modules, which register methods, backbones, heads or data sets; see "
            "[Add a method](add-a-method.md)",
            Text("paths of files or names of modules"),
        ),
        Key(
            "MODEL.DEVICE",
            "auto",
            "where the model runs; `auto` is `cuda` where PyTorch sees a GPU, else `cpu`",
            Text("auto, cpu, cuda or one GPU such as cuda:0"),
        ),
        Key(
            "DATASETS.ON_BAD_IMAGE",
            "stop",
            "what to do about unreadable images: `stop` before training and list them all, or `skip` them",
            OneOf("stop", "skip"),
        ),
        Key(
            "DATALOADER.CACHE_GIB",
            4.0,
            "GiB of disk, in the user's cache folder, for images that are decoded and resized once for all epochs and "
            "runs; the pixels stay the same. It is used where INPUT begins with the same resizing in training and test",
            Range(0, words="0 (decode each time) or more"),
        ),
        Key(
            "TEST.TRANSDUCTIVE",
            False,
            "score the labelled images of DATASETS.TESTS that are also trained on, by leave-one-out; unsupervised "
            "methods train on them without reading their identities",
            SWITCH,
        ),
        Key(
            "TEST.RUNTIME",
            "torch",
            "what computes the features of trained or frozen weights on a CPU: `openvino` is "
            "[faster for many photographs](photographs.md#many-photographs-and-no-gpu) and needs "
            "`pip install 'fastreid_fancl[openvino]'`. Training and its tests always take `torch`",
            OneOf("torch", "openvino"),
        ),
    ),
    "Model and solver": (
        Key(
            "MODEL.PRECISION",
            "auto",
            "arithmetic of the backbones: `bfloat16` needs no loss scaling and takes about 0.6 of the time where the "
            "hardware has it (AVX512_BF16, AMX, GPUs from Ampere on). `auto` is `bfloat16` there, and `float32` "
            "elsewhere and beside SOLVER.AMP, which is float16 on GPUs",
            OneOf("auto", "float32", "bfloat16"),
        ),
        Key("MODEL.CHANNELS_LAST", True, "activations with the channels innermost: equal to rounding, faster", SWITCH),
        Key(
            "MODEL.BACKBONE.TIMM",
            "",
            "timm's name of the encoder, such as `tf_efficientnet_lite0` or `hf-hub:owner/name`, with "
            "`MODEL.BACKBONE.NAME build_timm_backbone`",
            Text("a name, or empty"),
        ),
        Key(
            "MODEL.BACKBONE.BATCHNORM",
            "train",
            "BatchNorm of the backbones in training. `train` normalises by the statistics of the batch, as usual; "
            "`eval` by the running statistics of the weights, and still trains scale and shift; `frozen` trains "
            "neither. Parts that start fresh beside known weights, such as WITH_NL's, always `train`",
            OneOf(*MODES),
        ),
        Key(
            "MODEL.BATCHNORM_GROUPS",
            1,
            "BatchNorm computes its statistics separately over this many equal parts of each process's batch: 4 for "
            "published numbers that come from 4 GPUs",
            COUNT,
        ),
        Key(
            "SOLVER.MICRO_BATCHES",
            1,
            "parts of a process's batch that go through a backbone one by one, for small GPUs. It costs a second "
            "forward pass; losses and memories see the whole batch",
            COUNT,
        ),
        Key("SOLVER.FUSED", True, "the optimiser's fused step: equal to rounding, faster", SWITCH),
        Key(
            "SOLVER.ITERS_PER_EPOCH",
            0,
            "iterations per epoch; 0 is one pass, the number of training images over the batch size",
            Range(0, words="0 (one pass over the images) or more"),
        ),
        Key("INPUT.BLUR.ENABLED", False, "Gaussian blur of training images", SWITCH),
        Key("INPUT.BLUR.PROB", 0.5, "probability that an image is blurred", SHARE),
        Key(
            "INPUT.BLUR.SIGMA",
            [0.1, 2.0],
            "range of the blur's standard deviation, in pixels of INPUT.SIZE_TRAIN",
            Range(0, length=2, rising=True, words="[lowest, highest], from 0"),
        ),
    ),
    "Pseudo-labels": (
        Key(
            "PSEUDO_LABELS.ALGORITHM",
            "dbscan",
            "`dbscan` or `hdbscan` on the Jaccard distance; `hdbscan` needs no radius. `oracle` takes the true "
            "identities, the upper bound of any clustering",
            OneOf("dbscan", "hdbscan", "oracle"),
        ),
        Key("PSEUDO_LABELS.K1", 30, "k1: neighbours of the reciprocal sets of the Jaccard distance", COUNT),
        Key("PSEUDO_LABELS.K2", 6, "k2: neighbours of its query expansion; 1 for none", COUNT),
        Key(
            "PSEUDO_LABELS.EPS",
            0.5,
            "eps: DBSCAN's radius as a Jaccard distance, or `auto`, chosen from the data before each epoch",
            WordOrRange("auto", Range(0, 1, open_low=True, open_high=True, words="between 0 and 1")),
        ),
        Key(
            "PSEUDO_LABELS.MIN_SAMPLES",
            4,
            "images within eps, the image itself included, that make a core point; also the smallest cluster of "
            "HDBSCAN, which needs 2",
            COUNT,
        ),
        Key(
            "PSEUDO_LABELS.LOCAL",
            0.0,
            "w: neighbours by cosine + w log(1 + local matches that agree on one geometry), see docs/local.md. 0 "
            "leaves local matches out; 0.1 to 0.2 suits coats with spots, stripes or scars. It needs faiss",
            NOT_NEGATIVE,
        ),
        Key(
            "PSEUDO_LABELS.LOCAL_LINKS",
            0,
            "two images with at least this many local matches share a cluster, whatever their features are, if their "
            "descriptors propose the pair; 0 for none. It needs PSEUDO_LABELS.LOCAL; begin with 20, see docs/local.md",
            NOT_NEGATIVE,
        ),
        Key(
            "PSEUDO_LABELS.DEVICE",
            "",
            "where neighbours and distances are computed; empty is MODEL.DEVICE. Set `cpu` where the GPU's memory is "
            "too small for them",
            Text("empty, cpu or MODEL.DEVICE"),
        ),
        Key(
            "PSEUDO_LABELS.NEIGHBOURS",
            "auto",
            "how neighbours are found. `auto` is the faster of this package's searches, `exact` the one in float32, "
            "`faiss` the flat index of faiss; these three find the same neighbours. `faiss_ivf` is approximate, for "
            "more images than the others can take, and logs its recall",
            OneOf(*SEARCHES),
        ),
        Key(
            "PSEUDO_LABELS.BLOCK_GIB",
            1.0,
            "GiB of memory per step of the neighbour search, and on a GPU of the distances, in addition to the "
            "features, the lists of neighbours and the result",
            Range(2**-20, 2**20, words="at least a KiB (2**-20), at most 2**20"),
        ),
    ),
    "Memory": (
        Key("MEMORY.TEMPERATURE", 0.05, "tau (Eq. 4)", POSITIVE),
        Key("MEMORY.MOMENTUM", 0.1, "alpha (Eq. 9): the share of the old centroid that an update keeps", SHARE),
        Key(
            "MEMORY.UPDATE",
            "mean",
            "`mean` updates a centroid by every query (Eq. 9), `hard` by the least similar one only, as the released "
            "code of Cluster Contrast did until November 2021",
            OneOf("mean", "hard"),
        ),
    ),
    "FANCL": (
        Key(
            "FANA.LAYER",
            "auto",
            "W and b of Eq. 1: the backbone's module whose output is A(x). `auto` is its first convolution: conv1 of a "
            "ResNet, the patch embedding of a vision transformer",
            Text("auto or the name of a module"),
        ),
        Key("FANA.RATIO", 0.1, "share of the image area that is noised (Fig. 3); sets gamma of Eq. 2 per image", SHARE),
        Key("CONSISTENCY.INSTANCE", True, "the term -sim(f_q, f~_q) of Eq. 7", SWITCH),
        Key("CONSISTENCY.CLUSTER", True, "the term -sim(f_q, m~_+) of Eq. 7", SWITCH),
    ),
    "SpCL": (
        Key(
            "SPCL.GAP",
            0.02,
            "by how much the test of reliability tightens and loosens eps",
            # It stays where distances are stored around any radius of the sweep, for EPS auto or the guard.
            Range(0, 0.05, open_high=True),
        ),
    ),
    "JCL": (
        Key("JCL.INSTANCE_WEIGHT", 1.0, "weight of the instance loss beside the cluster loss", NOT_NEGATIVE),
        Key("JCL.NEGATIVES", 50, "hard negatives per query of the instance loss", COUNT),
    ),
    "ICE (Chen et al., ICCV 2021)": (
        Key("ICE.MOMENTUM", 0.999, "alpha: the share of the old teacher that each step keeps", SHARE),
        Key("ICE.CLUSTER_TEMPERATURE", 0.5, "tau_c of the cluster proxies", POSITIVE),
        Key("ICE.LABEL_SMOOTHING", 0.1, SMOOTHING, SHARE),
        Key("ICE.INSTANCE_TEMPERATURE", 0.1, "tau_v of the hard instance contrast", POSITIVE),
        Key("ICE.CONSISTENCY_SCALE", 0.4, "temperature of the similarity consistency", POSITIVE),
        Key("ICE.CONSISTENCY_WEIGHT", 10.0, "its weight in the sum of the losses", NOT_NEGATIVE),
        Key("ICE.CAMERA_TEMPERATURE", 0.07, "beta of the camera proxies", POSITIVE),
        Key("ICE.CAMERA_NEGATIVES", 50, "their hard negatives per image", NOT_NEGATIVE),
        Key("ICE.CAMERA_WEIGHT", 0.5, "their weight in the sum of the losses", NOT_NEGATIVE),
    ),
    "PPLR": (
        Key("PPLR.K", 20, "k: neighbours of the cross agreement, without the image itself", COUNT),
        Key("PPLR.BETA", 0.5, "beta: share of the pseudo-label in the refined label of the global feature", SHARE),
        Key(
            "PPLR.AALS_EPOCH",
            5,
            "the first epoch, from 0, in which the cross agreement smooths the labels of the parts",
            NOT_NEGATIVE,
        ),
        Key("PPLR.LABEL_SMOOTHING", 0.1, f"{SMOOTHING}, in the epochs before", SHARE),
        Key("PPLR.MAX_CLUSTERS", 3000, "rows of a classifier; an epoch uses one per cluster", COUNT),
        Key(
            "PPLR.CAMERA_WEIGHT",
            0.5,
            "lambda_cam: weight of the contrast between cameras, where they are known",
            Range(0, words="0 (no contrast between cameras) or more"),
        ),
        Key("PPLR.CAMERA_TEMPERATURE", 0.07, "its tau", POSITIVE),
        Key("PPLR.CAMERA_NEGATIVES", 50, "its hard negatives per query", COUNT),
    ),
    "Stripes of PCB and PPLR": (
        Key("PARTS.NUMBER", 6, "P: stripes (PCB 6, PPLR 3)", COUNT),
        Key(
            "PARTS.AXIS",
            "height",
            "`height` lays stripes one above the other, `width` side by side",
            OneOf("height", "width"),
        ),
        Key(
            "PARTS.DIM",
            256,
            "dimensions of a stripe's feature after its 1x1 reduction",
            Range(0, words="0 (no reduction) or more"),
        ),
        Key(
            "PARTS.REFINED",
            False,
            "pool by a trained part classifier instead of stripes: the second phase of PCB (refined part pooling)",
            SWITCH,
        ),
    ),
}

KEYS: tuple[Key, ...] = tuple(key for keys in SECTIONS.values() for key in keys)

NUMBER_OR_WORD.update(key.name for key in KEYS if isinstance(key.valid, WordOrRange))
