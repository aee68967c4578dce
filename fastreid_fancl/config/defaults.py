"""Every key that this package adds to fast-reid's configuration."""

from fastreid.config import CfgNode


def add_fancl_config(cfg: CfgNode) -> None:
    """Add the keys below, with the paper's symbols and values (FANCL, Section IV-B), to fast-reid's defaults."""
    # Seed of every random choice: weights, batches, augmentation, synthetic data.
    cfg.SEED = 0
    # Python files or modules to import first: they register methods, backbones, heads or data sets of your own.
    cfg.IMPORTS = ()
    # "auto" is "cuda" where PyTorch sees a GPU and "cpu" elsewhere.
    cfg.MODEL.DEVICE = "auto"
    # Arithmetic of the backbones, in training and afterwards: "float32", or "bfloat16", which needs no loss scaling and
    # takes about 0.6 of the time where the hardware has it. "auto" is "bfloat16" there, and "float32" elsewhere and
    # beside fast-reid's SOLVER.AMP, which is float16 with loss scaling, on GPUs only.
    cfg.MODEL.PRECISION = "auto"
    # Activations with the channels innermost, equal to rounding and faster.
    cfg.MODEL.CHANNELS_LAST = True
    # timm's name of the model that build_timm_backbone builds, such as "tf_efficientnet_lite0" or "hf-hub:owner/name".
    cfg.MODEL.BACKBONE.TIMM = ""
    # BatchNorm of the backbones in training. "train" normalises by the statistics of the batch, as usual; "eval" by the
    # running statistics that came with the weights, and still trains scale and shift; "frozen" keeps these two as well.
    cfg.MODEL.BACKBONE.BATCHNORM = "train"
    # Virtual processes: BatchNorm takes the statistics of so many equal parts of each process's batch, part by part.
    cfg.MODEL.BATCHNORM_GROUPS = 1
    # Parts of a process's batch that go through a backbone one by one, for GPUs too small for the whole batch. It costs
    # a second forward pass; losses and memories see the whole batch.
    cfg.SOLVER.MICRO_BATCHES = 1
    # The optimiser's fused step, equal to rounding and faster.
    cfg.SOLVER.FUSED = True
    # Iterations an epoch; 0 is one pass, the number of training images over the batch size.
    cfg.SOLVER.ITERS_PER_EPOCH = 0
    # What to do about an unreadable image: "stop" before training with the list of them, or "skip" them.
    cfg.DATASETS.ON_BAD_IMAGE = "stop"
    # Score the photographs that are trained on, by leave-one-out: those of DATASETS.TESTS that have an identity. For
    # grouping one's own photographs: unsupervised methods train on them without reading the identities.
    cfg.TEST.TRANSDUCTIVE = False
    # GiB of disk, in the user's cache folder, for photographs that are decoded and resized once for all epochs and
    # runs, equal to the bit. Used where INPUT begins with the same resizing in training and test. 0 switches it off.
    cfg.DATALOADER.CACHE_GIB = 4.0
    # Gaussian blur of a training image with this probability; SIGMA is a range, in pixels of SIZE_TRAIN.
    cfg.INPUT.BLUR = CfgNode()
    cfg.INPUT.BLUR.ENABLED = False
    cfg.INPUT.BLUR.PROB = 0.5
    cfg.INPUT.BLUR.SIGMA = [0.1, 2.0]

    cfg.PSEUDO_LABELS = CfgNode()
    # "dbscan" or "hdbscan" on the Jaccard distance, or "oracle": the true identities, any clustering's upper bound.
    cfg.PSEUDO_LABELS.ALGORITHM = "dbscan"
    # Neighbours of the k-reciprocal Jaccard distance: k1 of the reciprocal sets, k2 of the query expansion.
    cfg.PSEUDO_LABELS.K1 = 30
    cfg.PSEUDO_LABELS.K2 = 6
    # DBSCAN's radius as a Jaccard distance in (0, 1), or "auto": chosen each epoch from the data.
    cfg.PSEUDO_LABELS.EPS = 0.5
    # Images within eps, the image itself included, that make a core point; HDBSCAN's smallest cluster too.
    cfg.PSEUDO_LABELS.MIN_SAMPLES = 4
    # Where neighbours and distances are computed: "" is MODEL.DEVICE; set "cpu" where its memory is too small for them.
    cfg.PSEUDO_LABELS.DEVICE = ""
    # GiB of a GPU that a step of it takes at once, beside the features, the lists of neighbours and its result.
    cfg.PSEUDO_LABELS.BLOCK_GIB = 1.0

    cfg.MEMORY = CfgNode()
    # tau, Eq. 4.
    cfg.MEMORY.TEMPERATURE = 0.05
    # alpha, Eq. 9: the share of the old centroid that stays.
    cfg.MEMORY.MOMENTUM = 0.1
    # "mean": Eq. 9 for every query; "hard": for each cluster's least similar query only (Cluster Contrast).
    cfg.MEMORY.UPDATE = "mean"

    cfg.FANA = CfgNode()
    # W and b of Eq. 1: the backbone's module whose output becomes A(x). "auto" is its first convolution: the paper's
    # conv1 on a ResNet, the patch embedding on a vision transformer.
    cfg.FANA.LAYER = "auto"
    # Noised share of the image area, Fig. 3; it sets gamma of Eq. 2 for each image.
    cfg.FANA.RATIO = 0.1

    cfg.CONSISTENCY = CfgNode()
    # The two terms of Eq. 7, -sim(f_q, f~_q) and -sim(f_q, m~_+).
    cfg.CONSISTENCY.INSTANCE = True
    cfg.CONSISTENCY.CLUSTER = True

    # ICE (Chen et al., ICCV 2021), the values of its released code.
    cfg.ICE = CfgNode()
    # alpha: the share of the old teacher that stays at each step.
    cfg.ICE.MOMENTUM = 0.999
    # tau_c of the cluster proxies, and the share of a target that is spread over all clusters.
    cfg.ICE.CLUSTER_TEMPERATURE = 0.5
    cfg.ICE.LABEL_SMOOTHING = 0.1
    # tau_v of the hard instance contrast.
    cfg.ICE.INSTANCE_TEMPERATURE = 0.1
    # Temperature of the similarity consistency, and its weight in the sum of the losses.
    cfg.ICE.CONSISTENCY_SCALE = 0.4
    cfg.ICE.CONSISTENCY_WEIGHT = 10.0
    # beta of the camera proxies, their hard negatives an image, and the weight in the sum of the losses.
    cfg.ICE.CAMERA_TEMPERATURE = 0.07
    cfg.ICE.CAMERA_NEGATIVES = 50
    cfg.ICE.CAMERA_WEIGHT = 0.5

    cfg.SPCL = CfgNode()
    # By how much SpCL's reliability test tightens and loosens eps.
    cfg.SPCL.GAP = 0.02

    cfg.JCL = CfgNode()
    # Weight of the instance loss beside the cluster loss, and its hard negatives a query.
    cfg.JCL.INSTANCE_WEIGHT = 1.0
    cfg.JCL.NEGATIVES = 50

    cfg.PPLR = CfgNode()
    # k neighbours, without the image itself, of the cross agreement.
    cfg.PPLR.K = 20
    # beta, the share of the pseudo-label in the refined label of the global feature.
    cfg.PPLR.BETA = 0.5
    # The first epoch, from 0, that smooths the labels of the parts by the cross agreement, and the smoothing before.
    cfg.PPLR.AALS_EPOCH = 5
    cfg.PPLR.LABEL_SMOOTHING = 0.1
    # Rows of a classifier, of which an epoch uses one a cluster.
    cfg.PPLR.MAX_CLUSTERS = 3000
    # The contrast between cameras, where they are known: lambda_cam, tau, hard negatives a query.
    cfg.PPLR.CAMERA_WEIGHT = 0.5
    cfg.PPLR.CAMERA_TEMPERATURE = 0.07
    cfg.PPLR.CAMERA_NEGATIVES = 50

    cfg.PARTS = CfgNode()
    # P stripes of the part head (PCB 6, PPLR 3), along "height" (one above the other) or "width" (side by side).
    cfg.PARTS.NUMBER = 6
    cfg.PARTS.AXIS = "height"
    # Dimensions of a stripe's feature after its 1x1 reduction; 0 for no reduction.
    cfg.PARTS.DIM = 256
    # Pool by a trained part classifier instead of stripes: the second phase of PCB (refined part pooling).
    cfg.PARTS.REFINED = False


def forget_encoder(cfg: CfgNode) -> None:
    """Make fast-reid's defaults for a ResNet-50 open: what nobody sets, `describe_encoder` takes from the backbone."""
    cfg.MODEL.BACKBONE.FEAT_DIM, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = 0, [], []
