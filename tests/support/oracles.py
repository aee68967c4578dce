"""Slow and plain versions of the equations, and data that is hard enough to tell a right answer from a wrong one."""

import numpy as np

# Clustering. N rows, D dimensions, k neighbours; everything dense, in float64.


HARD = {
    "easy": {"rows": 600, "identities": 20, "spread": 0.6},
    "middling": {"rows": 600, "identities": 20, "spread": 1.0},
    "hard": {"rows": 600, "identities": 20, "spread": 1.3},
    "very uneven": {"rows": 600, "identities": 20, "spread": 0.9, "unevenness": 1.4},
    "strong cameras": {"rows": 600, "identities": 20, "spread": 0.8, "shift": 0.9},
    "steep spectrum": {"rows": 600, "identities": 20, "spread": 0.7, "decay": 0.8},
    "many identities": {"rows": 900, "identities": 80, "spread": 0.9},
    "few identities": {"rows": 300, "identities": 5, "spread": 1.0},
}


def hard_features(
    rows: int,
    dimensions: int = 128,
    identities: int = 20,
    spread: float = 1.0,
    shift: float = 0.5,
    decay: float = 0.5,
    unevenness: float = 0.8,
    cameras: int = 6,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """L2-normalised features (rows, dimensions) and their identities (rows,).

    Identities are of uneven sizes (log-normal with deviation `unevenness`), cameras move their images by `shift`,
    images spread by about `spread` around their identity, and dimension d has the scale d ** -decay.
    """
    random = np.random.default_rng(seed)
    weights = np.exp(unevenness * random.standard_normal(identities))
    identity = random.choice(identities, size=rows, p=weights / weights.sum())
    camera = random.integers(cameras, size=rows)
    scale = np.arange(1, dimensions + 1, dtype=np.float32) ** -decay
    blur = spread * np.exp(0.3 * random.standard_normal((rows, 1), dtype=np.float32))
    features = (
        random.standard_normal((identities, dimensions), dtype=np.float32)[identity]
        + shift * random.standard_normal((cameras, dimensions), dtype=np.float32)[camera]
        + blur * random.standard_normal((rows, dimensions), dtype=np.float32)
    ) * scale
    return features / np.linalg.norm(features, axis=1, keepdims=True), identity


def squared_distances(features: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances of all pairs, (N, N)."""
    features = features.astype(np.float64)
    return np.stack([np.square(features - row).sum(axis=1) for row in features])


def nearest(features: np.ndarray, k: int) -> np.ndarray:
    """The nearest rows, (N, min(k, N)), sorted by (distance, number), the row itself first."""
    distance = squared_distances(features)
    np.fill_diagonal(distance, -1)
    return np.argsort(distance, axis=1, kind="stable")[:, :k]


def dense_jaccard(features: np.ndarray, k1: int, k2: int, neighbors: np.ndarray | None = None) -> np.ndarray:
    """(N, N) k-reciprocal Jaccard distance by dense loops, as the code that the clustering methods share has it.

    Args:
        features: (N, D).
        k1: length of the neighbour lists.
        k2: neighbours that a row's encoding is the mean of.
        neighbors: (N, k1) to use in place of a search.
    """
    rows = len(features)
    neighbors = nearest(features, k1) if neighbors is None else neighbors
    full = [_reciprocal(neighbors, i, k1 + 1) for i in range(rows)]
    half = [_reciprocal(neighbors, i, int(np.around(k1 / 2)) + 1) for i in range(rows)]
    encoding = np.zeros((rows, rows), dtype=features.dtype)
    for i in range(rows):
        expanded = set(full[i])
        for j in full[i]:
            if len(set(half[j]) & set(full[i])) > 2 / 3 * len(half[j]):
                expanded |= set(half[j])
        columns = sorted(expanded)
        weights = np.exp(-(2 - 2 * features[columns] @ features[i]))
        encoding[i, columns] = weights / weights.sum()
    if k2 > 1:
        encoding = np.stack([encoding[neighbors[i, :k2]].mean(axis=0) for i in range(rows)])
    return _dense_overlap(encoding)


def _reciprocal(neighbors: np.ndarray, i: int, length: int) -> list[int]:
    return [j for j in neighbors[i, :length].tolist() if i in neighbors[j, :length]]


def _dense_overlap(encoding: np.ndarray) -> np.ndarray:
    """1 - s / (2 - s) of the sums s of minima, by the lists of rows that share a column."""
    distance = np.ones_like(encoding)
    holders = [np.flatnonzero(column) for column in encoding.T]
    for i, own in enumerate(encoding):
        overlap = np.zeros_like(own)
        for column in np.flatnonzero(own):
            others = holders[column]
            overlap[others] += np.minimum(own[column], encoding[others, column])
        distance[i] = np.maximum(0, 1 - overlap / (2 - overlap))
    return distance


def reliable_partition(
    labels: np.ndarray, tight: np.ndarray, loose: np.ndarray, threshold: float | None
) -> tuple[np.ndarray, float]:
    """SpCL's refinement with N x N label matrices: labels (N,), no -1, and the threshold.

    Each image of all three inputs has a class, those left out one of their own.
    """
    same, same_tight, same_loose = (own[:, None] == own[None] for own in (labels, tight, loose))
    scatter = 1 - np.float32((same & same_tight).sum(1)) / np.float32((same | same_tight).sum(1))
    dependence = 1 - np.float32((same & same_loose).sum(1)) / np.float32((same | same_loose).sum(1))
    classes = np.unique(labels)
    least_scatter = {c: scatter[labels == c].min() for c in classes}
    least_dependence = {c: dependence[labels == c].min() for c in classes}
    if threshold is None:
        values = sorted(least_dependence[c] for c in classes if (labels == c).sum() > 1)
        threshold = values[min(len(values) - 1, int(np.round(0.9 * len(values))))]
    refined = labels.copy()
    for i, c in enumerate(labels):
        # In the precision of the overlaps: NumPy 1 would compare their scalars in float64, and 0.3 is a tie.
        if least_dependence[c] > np.float32(threshold) or scatter[i] > least_scatter[c]:
            refined[i] = labels.max() + 1 + i
    return refined, float(threshold)


def cluster_nce(queries, centroids, targets, temperature):
    """FANCL Eq. 4-5, one query and one cluster at a time."""
    total = 0.0
    for query, target in zip(queries, targets, strict=True):
        similarity = [float(query @ m / (np.linalg.norm(query) * np.linalg.norm(m))) / temperature for m in centroids]
        total -= similarity[target] - np.log(np.sum(np.exp(similarity)))
    return total / len(queries)


def consistency(original, noised, noised_centroids, targets):
    """FANCL Eq. 7, one query at a time, both terms."""

    def cosine(u, v):
        return float(u @ v / (np.linalg.norm(u) * np.linalg.norm(v)))

    pairs = zip(original, noised, targets, strict=True)
    return -np.mean([cosine(f, noised_centroids[t]) + cosine(f, f_noised) for f, f_noised, t in pairs])


def mean_update(centroids, queries, targets, momentum):
    """FANCL Eq. 9, one query at a time, each followed by a normalisation."""
    centroids = centroids.copy()
    for query, target in zip(queries, targets, strict=True):
        moved = momentum * centroids[target] + (1 - momentum) * query / np.linalg.norm(query)
        centroids[target] = moved / np.linalg.norm(moved)
    return centroids


def hard_update(centroids, queries, targets, momentum):
    """Cluster Contrast's update by the least similar query of each cluster."""
    updated = centroids.copy()
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    for cluster in set(targets.tolist()):
        own = queries[targets == cluster]
        hardest = own[np.argmin(own @ centroids[cluster])]
        moved = momentum * centroids[cluster] + (1 - momentum) * hardest
        updated[cluster] = moved / np.linalg.norm(moved)
    return updated


def proxy_contrast(similarity, positives, negatives, temperature, hard):
    """The cross-camera loss of ICE and PPLR, one query at a time: (B,), zero where a query has no positive."""
    losses = []
    for row, own, other in zip(similarity / temperature, positives, negatives, strict=True):
        hardest = sorted(row[other], reverse=True)[:hard]
        total = np.log(sum(np.exp(value) for value in [*row[own], *hardest])) if own.any() else 0.0
        losses.append(np.mean([total - value for value in row[own]]) if own.any() else 0.0)
    return np.array(losses)


def cross_agreement(features_global, features_parts, k):
    """PPLR's score, one image and one part (N, P, D) at a time: (N, P)."""
    own = nearest(features_global, k + 1)[:, 1:]
    scores = []
    for part in np.moveaxis(features_parts, 1, 0):
        pairs = [(set(a), set(b)) for a, b in zip(own.tolist(), nearest(part, k + 1)[:, 1:].tolist(), strict=True)]
        scores.append([len(a & b) / len(a | b) for a, b in pairs])
    return np.array(scores).T


def softmax(logits):
    """Softmax of a vector."""
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def part_guided_label_refinement(logits_global, logits_parts, targets, agreement, beta):
    """PPLR, one query at a time: logits (B, M) and (B, P, M), agreement (B, P)."""
    total = 0.0
    for own, parts, target, score in zip(logits_global, logits_parts, targets, agreement, strict=True):
        label = (1 - beta) * sum(w * softmax(part) for w, part in zip(softmax(score), parts, strict=True))
        label[target] += beta
        total -= label @ np.log(softmax(own))
    return total / len(targets)


def agreement_aware_label_smoothing(logits_parts, targets, agreement):
    """PPLR, one query and one part at a time: logits (B, P, M), agreement (B, P)."""
    losses = []
    for parts, target, scores in zip(logits_parts, targets, agreement, strict=True):
        for q, score in zip(map(softmax, parts), scores, strict=True):
            u = 1 / len(q)
            losses.append(-score * np.log(q[target]) + (1 - score) * sum(u * np.log(u / value) for value in q))
    return np.mean(losses)


def soft_triplet(embeddings, targets):
    """PPLR, one query (B, D) at a time, zero for one without a negative."""
    losses = []
    for embedding, target in zip(embeddings, targets, strict=True):
        distance = np.sqrt(np.square(embeddings - embedding).sum(1))
        positive, negative = distance[targets == target].max(), distance[targets != target].min(initial=np.inf)
        losses.append(np.log1p(np.exp(positive - negative)))
    return np.mean(losses)


def noise_mask(activation, ratio):
    """FANCL Eq. 2 for one image (H, W): the round(ratio H W) strongest pixels, earlier ones first among equals."""
    flat = activation.ravel()
    strongest = sorted(range(flat.size), key=lambda pixel: (-flat[pixel], pixel))[: round(ratio * flat.size)]
    mask = np.zeros(flat.size, dtype=bool)
    mask[strongest] = True
    return mask.reshape(activation.shape)


def hybrid_nce(queries, features, labels, indices, temperature):
    """SpCL Eq. 1 with the reference code's floor of 1e-6 under the probability, one query at a time."""
    means = [features[labels == c].mean(axis=0) for c in range(labels.max() + 1)]
    losses = []
    for query, index in zip(queries, indices, strict=True):
        weights = np.exp([query @ mean / temperature for mean in means])
        losses.append(-np.log(weights[labels[index]] / weights.sum() + 1e-6))
    return np.mean(losses)


def hard_instances(queries, features, labels, targets, temperature, negatives):
    """JCL's instance loss, one query at a time."""
    losses = []
    for query, target in zip(queries, targets, strict=True):
        similarity = features @ query / temperature
        positive = similarity[labels == target].min()
        hardest = sorted(similarity[(labels != target) & (labels >= 0)])[-negatives:]
        losses.append(np.log(np.exp([positive, *hardest]).sum()) - positive)
    return np.mean(losses)


def cosines(u, v):
    """(B, D), (K, D) -> (B, K), one pair at a time."""
    return np.array([[a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for b in v] for a in u])


def smoothed_cross_entropy(logits, targets, smoothing):
    """Cross-entropy with the share `smoothing` of each target spread over all M classes, one image at a time."""
    total = 0.0
    for row, target in zip(logits, targets, strict=True):
        wanted = np.full(len(row), smoothing / len(row))
        wanted[target] += 1 - smoothing
        total -= wanted @ (row - np.log(np.exp(row).sum()))
    return total / len(logits)


def hard_instance_contrast(student, teacher, targets, temperature):
    """ICE's hard instance loss, one image at a time."""
    losses = []
    for row, target in zip(np.exp(cosines(student, teacher) / temperature), targets, strict=True):
        hardest = row[targets == target].min()
        losses.append(-np.log(hardest / (hardest + row[targets != target].sum())))
    return np.mean(losses)


def similarity_consistency(student, teacher, teacher_weak, scale):
    """ICE's soft instance loss, one image at a time: KL(weak || strong)."""
    losses = []
    for strong, weak in zip(cosines(student, teacher), cosines(teacher_weak, teacher_weak), strict=True):
        p, q = (np.exp(row / scale) / np.exp(row / scale).sum() for row in (strong, weak))
        losses.append(np.sum(q * np.log(q / p)))
    return np.mean(losses)


def camera_contrast(student, targets, cameras, proxies, proxy_clusters, temperature, hard):
    """ICE's cross-camera loss, one camera at a time: a mean over its images, and of these the sum."""
    total = 0.0
    for camera in set(cameras.tolist()):
        mine = cameras == camera
        positives = targets[mine][:, None] == proxy_clusters
        similarity = cosines(student[mine], proxies)
        total += proxy_contrast(similarity, positives, ~positives, temperature, hard).mean()
    return total


# PCB. B images, P parts, D channels, d dimensions, C identities.


def part_cross_entropy(features, weights, biases, targets):
    """The sum over parts, with weights (P, d, C) and biases (P, C), of -log softmax(h_i w_i + b_i) at the identity."""
    total = 0.0
    for image, target in zip(features, targets, strict=True):
        for part, weight, bias in zip(image, weights, biases, strict=True):
            logits = part @ weight + bias
            total -= logits[target] - np.log(sum(np.exp(logits)))
    return total / len(features)


def refined_parts(feature_map, part_logits):
    """(B, P, D): the mean of the columns of (B, D, h, w), weighted by the softmax over the parts of (B, P, h, w)."""
    batch, dim, height, width = feature_map.shape
    pooled = np.zeros((batch, part_logits.shape[1], dim))
    weight = np.zeros((batch, part_logits.shape[1], 1))
    for b, y, x in np.ndindex(batch, height, width):
        probability = np.exp(part_logits[b, :, y, x])
        probability /= probability.sum()
        pooled[b] += np.outer(probability, feature_map[b, :, y, x])
        weight[b, :, 0] += probability
    return pooled / weight


# JCL's backbone. B images, C channels, R of them after the squeeze.


def attention(feature_map, squeeze, expand, kernel):
    """CBAM of (B, C, h, w), one image, channel and place at a time; the kernel (2, k, k) sees zeros beyond the map.

    The channels' two layers are squeeze (R, C) and expand (C, R), without biases.
    """

    def sigmoid(value):
        return 1 / (1 + np.exp(-value))

    attended = np.zeros(feature_map.shape)
    for image, result in zip(feature_map.astype(float), attended, strict=True):
        pools = [channel.mean() for channel in image], [channel.max() for channel in image]
        score = sum(expand @ np.maximum(squeeze @ np.array(pool), 0) for pool in pools)
        image *= sigmoid(score)[:, None, None]
        _, height, width = image.shape
        reach = kernel.shape[1] // 2
        for y, x in np.ndindex(height, width):
            score = 0.0
            for row, column in np.ndindex(kernel.shape[1:]):
                v, u = y + row - reach, x + column - reach
                if 0 <= v < height and 0 <= u < width:
                    place = image[:, v, u]
                    score += kernel[0, row, column] * place.mean() + kernel[1, row, column] * place.max()
            result[:, y, x] = image[:, y, x] * sigmoid(score)
    return attended
