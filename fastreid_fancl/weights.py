from .compat.checkpoint import as_checkpoint, read_weights


def read(path):
    return as_checkpoint(read_weights(path), path)["model"]
def start(backbone, weights, source, key_filter=None):
    fresh = tuple(getattr(backbone, "fresh_parts", ()))
    r = backbone.load_state_dict(weights, strict=False)
    assert not [k for k in r.missing_keys if "num_batches" not in k and not k.startswith(fresh or "\0")], r.missing_keys
