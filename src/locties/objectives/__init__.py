"""Objectives: losses that tie location embeddings to the embeddings of samples.

An objective is an `Objective` whose `forward` turns one `Batch` into a scalar loss; what it learns
(a temperature) are its parameters. A new one is one class and one line, ``OBJECTIVES["mine"] =
Mine``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from locties._util.matmul import FAINT
from locties._util.registry import Registry, unknown
from locties.modality import BUCKETS, Modality, Standardise

Direction = Literal["modality_to_location", "location_to_modality", "symmetric"]
Negatives = Literal["joint", "within_modality"]
DIRECTIONS = ("modality_to_location", "location_to_modality", "symmetric")
NEGATIVES = ("joint", "within_modality")

INITIAL_LOG_SCALE = math.log(1 / 0.07)
LARGEST_LOG_SCALE = math.log(100)
SIGLIP_LOG_SCALE, SIGLIP_BIAS = math.log(10), -10.0
LOGITS = 2**24  # similarities that may be in memory at once; if there are more, chunks of them
CHUNK, CHUNK_ROWS = 2**20, 64  # logits of a chunk, and rows at least
BLOCK = 2**21  # logits whose gradients are multiplied at once
SAFE_SCALE = 40.0  # exp(+-40), summed over any batch, is well within float32
POOL = 4  # pixels along each side of a patch's content
TOKEN_CONTENT = 64  # numbers in the content of a row of tokens


class Batch(NamedTuple):
    """What an objective sees of B (sample, location) pairs.

    Attributes:
        samples: (B, d) embeddings of the samples by their modality encoders.
        locations: (B, d) embeddings of their locations, row by row.
        modality: (B,) int64, which modality each pair came with.
        place: (B,) int64, equal where two pairs stand at the same coordinates.
        raw: by number m of modality, the samples (B_m, ...) themselves, in the batch's order; the
            training loop gives them, for objectives that look at them (`Objective.reads_samples`).

    Example:
        >>> z, ids = torch.eye(4), torch.arange(4)
        >>> Batch(samples=z, locations=z, modality=torch.zeros_like(ids), place=ids).raw is None
        True
    """

    samples: Tensor
    locations: Tensor
    modality: Tensor
    place: Tensor
    raw: Mapping[int, Tensor] | None = None


class Objective(nn.Module):
    """What the training loop asks of an objective: `forward`, and two hooks that may rest.

    Attributes:
        reads_samples: whether `forward` looks at `Batch.raw`. In a run of several processes, each
            reads the samples of the whole batch only then, and else its own share.

    Example:
        >>> class Distance(Objective):
        ...     def forward(self, batch):
        ...         return (batch.samples - batch.locations).square().mean()
        >>> z, ids = torch.eye(4), torch.arange(4)
        >>> Distance()(Batch(z, z, torch.zeros_like(ids), ids)).item()
        0.0
    """

    reads_samples = False

    def forward(self, batch: Batch) -> Tensor:
        """The scalar loss of one batch.

        Args:
            batch: B pairs.

        Returns:
            Scalar, with gradients.

        Raises:
            NotImplementedError: an objective has to say what it is.

        Example:
            >>> z, ids = torch.eye(4), torch.arange(4)
            >>> VICReg()(Batch(z, z, torch.zeros_like(ids), ids)).shape  # calling it is `forward`
            torch.Size([])
        """
        raise NotImplementedError

    def prepare(self, modalities: Mapping[str, Modality], dim: int) -> None:
        """See the modalities once, before the optimiser is made.

        Args:
            modalities: by name, in the order of the numbers in `Batch.modality`.
            dim: length of an embedding.

        Example:
            >>> class Counting(Objective):
            ...     def prepare(self, modalities, dim):
            ...         self.count = len(modalities)
            >>> objective = Counting()
            >>> objective.prepare({}, dim=8)
            >>> objective.count
            0
        """

    def clamp_(self) -> None:
        """Bring what is learned back into its bounds, after each step of the optimiser.

        Example:
            >>> objective = NTXent()
            >>> _ = objective.log_scale.data.fill_(9.0)
            >>> objective.clamp_()
            >>> round(objective.log_scale.exp().item())
            100
        """


def place_of(lonlat: Tensor) -> Tensor:
    """Give every distinct coordinate an integer: the bits of its float32 (lon, lat) pair.

    Args:
        lonlat: (N, 2) degrees.

    Returns:
        (N,) int64, equal exactly where both coordinates are equal in float32.
    """
    positive_zero = lonlat.float() + 0.0  # -0.0 and 0.0 are the same place
    return positive_zero.contiguous().view(torch.int64).squeeze(1)


def nt_xent(
    batch: Batch,
    log_scale: Tensor,
    direction: Direction = "modality_to_location",
    negatives: Negatives = "joint",
) -> Tensor:
    """The normalised-temperature cross entropy of MELT and SALT, averaged over the anchors.

    With z and e the L2-normalised embeddings of samples and locations and s = exp(log_scale)::

        l_i = -log( exp(s z_i.e_i) / sum_j exp(s z_i.e_j) )

    where j runs over i and all its negatives. Pairs at the same coordinates as i are not its
    negatives: they are left out of the sum. Computed in float32 (float64 stays float64), of
    bfloat16 embeddings too: only their own gradients are then products in bfloat16, to which these
    would be rounded anyway.

    At most `LOGITS` logits stand in memory at once, so that at B = 32,768 and d = 256 the loss
    with its gradients takes less than 200 MB. It can be differentiated once.

    Args:
        batch: B pairs, of one modality or of several.
        log_scale: scalar, the logarithm of the inverse temperature.
        direction: "modality_to_location" takes the samples as anchors and the locations as
            candidates (asymmetric, the reading of MELT here); "location_to_modality" the other
            way; "symmetric" the mean of both (SatCLIP, CLIP).
        negatives: "joint" takes all pairs of the batch as candidates, whichever modality they
            came with; "within_modality" only those of the anchor's own modality.

    Returns:
        Scalar loss.

    Raises:
        ValueError: at an unknown direction or kind of negatives.

    Example:
        >>> z, ids = torch.eye(4), torch.arange(4)
        >>> batch = Batch(z, z, torch.zeros_like(ids), ids)
        >>> round(nt_xent(batch, torch.tensor(math.log(100.0))).item(), 6)
        0.0

    Source: Chen et al., SimCLR, arXiv 2002.05709, for the loss; Hecht et al., arXiv 2606.20167,
    for its use with location tying. The sources at hand give no formula for the mixed batch:
    direction and negatives are therefore parameters.
    """
    _check(negatives, direction)
    inputs = batch.samples, batch.locations, log_scale.to(batch.samples.device, _dtype(batch))
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    with torch.autocast(batch.samples.device.type, enabled=False):
        return _NTXent.apply(*inputs, batch, direction, negatives, wanted)


class _NTXent(torch.autograd.Function):
    """`nt_xent` by chunks of anchors; each chunk's gradient is taken while its logits are there."""

    @staticmethod
    def forward(
        ctx: Any,
        samples: Tensor,
        locations: Tensor,
        log_scale: Tensor,
        batch: Batch,
        direction: Direction,
        negatives: Negatives,
        wanted: bool,
    ) -> Tensor:
        scale, pairs, kind = log_scale.exp(), len(samples), log_scale.dtype
        on_cpu, all_count = scale.device.type == "cpu", _all_count(batch, negatives)
        at_once = pairs**2 <= LOGITS
        # Such exponentials can be summed along both axes without underflow, so that the same
        # logits serve both ways. To know it of another device, it would have to be waited for.
        both = direction == "symmetric" and at_once and on_cpu and float(scale) <= SAFE_SCALE
        # A CPU keeps a chunk of some MB in its caches, and multiplies fewer rows at a lower rate;
        # elsewhere launching kernels is what costs.
        chunk = pairs if at_once and not on_cpu else min(pairs, max(CHUNK_ROWS, CHUNK // pairs))
        block = pairs if both else min(pairs, max(chunk, BLOCK // pairs))
        z, e = (
            (
                x,
                torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=kind).clamp_min(1e-12),
                torch.zeros_like(x, dtype=kind),
            )
            for x in (samples, locations)
        )
        passes: list[Any] = {
            "modality_to_location": [(z, e)],
            "location_to_modality": [(e, z)],
            "symmetric": [(z, e)] if both else [(z, e), (e, z)],
        }[direction]
        parts = pairs * (2 if direction == "symmetric" else 1)
        loss = torch.zeros_like(scale)
        halves = {batch.samples.dtype, batch.locations.dtype} == {torch.bfloat16}
        # Taken once: memory given back and taken anew costs a page fault for every 4 kB.
        pull_memory = scale.new_empty(block, pairs, dtype=torch.bfloat16 if halves else kind)
        chunks = scale.new_empty(2 if halves and not both else 1, chunk, pairs)
        left_out = None if all_count else partial(_left_out, batch, negatives)
        for (anchors, norms, anchors_grad), (candidates, their_norms, their_grad) in passes:
            candidates = candidates / their_norms  # of `kind`, as the norms are
            pulled = candidates.to(pull_memory.dtype)
            for first in range(0, pairs, block):
                rows = slice(first, min(pairs, first + block))
                unit = anchors[rows] / norms[rows]
                pull, scaled = pull_memory[: len(unit)], scale * unit
                if both:
                    loss += _pull_both_ways(pull, scaled, candidates, chunks, left_out) / parts
                else:
                    loss += _pull(pull, scaled, candidates, first, chunks, left_out) / parts
                if not wanted:
                    continue
                anchors_grad[rows] += pull @ pulled
                unit = unit.to(pull.dtype)
                # By blocks, for memory; torch's counter of FLOPs does not know addmm_.
                for grad, columns in zip(
                    their_grad.split(4096), pull.split(4096, dim=1), strict=True
                ):
                    grad += columns.T @ unit
            del candidates, pulled  # before there are others
        scale_grad = torch.zeros_like(scale)
        for side in (z, e) if wanted else ():
            for x, norm, grad in zip(*(tensor.split(1024) for tensor in side), strict=True):
                unit = x / norm  # only what turns the embedding changes the loss, not its length
                along = (unit * grad).sum(1, keepdim=True)
                if side is z:  # e would give the same
                    scale_grad += along.sum() * scale / parts
                grad -= unit * along
                grad *= scale / parts / norm
        ctx.save_for_backward(z[2], e[2], scale_grad)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *(grad * saved for saved in ctx.saved_tensors), None, None, None, None


def _pull(
    pull: Tensor,
    anchors: Tensor,
    candidates: Tensor,
    first: int,
    chunks: Tensor,
    left_out: Callable[[slice], Tensor] | None,
) -> Tensor:
    """The losses of (R, d) anchors, number `first` and following, added up; candidates (B, d).

    Fills `pull` (R, B) with their gradients by the logits: each row's softmax, less one where a
    pair is its own. `chunks` is memory (1, C, B) for C rows at a time, twice where `pull` is of
    another kind.
    """
    loss = anchors.new_zeros(())
    for start in range(0, len(anchors), chunks.shape[1]):
        here = slice(start, min(len(anchors), start + chunks.shape[1]))
        own = slice(first + here.start, first + here.stop)
        logits = chunks[0, : here.stop - start]
        shares = pull[here] if pull.dtype == logits.dtype else chunks[1, : here.stop - start]
        _logits(anchors[here], candidates, own, left_out, logits)
        torch.softmax(logits, 1, out=shares)
        # A row's largest share is at least one over their number: its logarithm is exact.
        loss += (logits.amax(1) - shares.amax(1).log() - logits[:, own].diagonal()).sum()
        if shares.is_cpu:  # no other device is slow with them
            F.threshold(shares, FAINT, 0.0, inplace=True)
        shares[:, own].diagonal().sub_(1)
        if shares.dtype != pull.dtype:
            pull[here] = shares
    return loss


def _pull_both_ways(
    pull: Tensor,
    anchors: Tensor,
    candidates: Tensor,
    chunks: Tensor,
    left_out: Callable[[slice], Tensor] | None,
) -> Tensor:
    """`_pull` of the rows and of the columns, added up: one exponential serves both.

    `pull` is square. Logits must lie within +-`SAFE_SCALE`, or be -inf: no share is then `FAINT`
    enough to be slow.
    """
    down, own_logit, own_exponential = anchors.new_empty(3, len(anchors))
    across = torch.zeros_like(down)
    spans = [
        slice(start, min(len(anchors), start + chunks.shape[1]))
        for start in range(0, len(anchors), chunks.shape[1])
    ]
    for rows in spans:
        logits = chunks[0, : rows.stop - rows.start] if pull.dtype != chunks.dtype else pull[rows]
        _logits(anchors[rows], candidates, rows, left_out, logits)
        own_logit[rows] = logits[:, rows].diagonal()
        exponentials = logits.exp_()
        own_exponential[rows] = exponentials[:, rows].diagonal()
        down[rows] = exponentials.sum(1)
        across += exponentials.sum(0)
        if exponentials.dtype != pull.dtype:
            pull[rows] = exponentials
    loss = (down.log() + across.log() - 2 * own_logit).sum()
    down.reciprocal_()
    across.reciprocal_()
    for rows in spans:
        both = torch.add(down[rows, None], across, out=chunks[0, : rows.stop - rows.start])
        if pull.dtype == both.dtype:
            pull[rows] *= both
        else:
            pull[rows] = both.mul_(pull[rows])
    pull.diagonal().copy_(own_exponential * (down + across) - 2)
    return loss


def _logits(
    anchors: Tensor,
    candidates: Tensor,
    own: slice,
    left_out: Callable[[slice], Tensor] | None,
    out: Tensor,
) -> None:
    """Into `out`: (R, B) products, -inf where two pairs are not each other's negatives."""
    torch.mm(anchors, candidates.T, out=out)
    if left_out is not None:
        out.masked_fill_(left_out(own), -torch.inf)


def _check(negatives: str, direction: str = "symmetric") -> None:
    if direction not in DIRECTIONS:
        raise unknown("direction", direction, DIRECTIONS)
    if negatives not in NEGATIVES:
        raise unknown("kind of negatives", negatives, NEGATIVES)


def _dtype(batch: Batch) -> torch.dtype:
    """float32, or float64 where embeddings have it."""
    either = torch.promote_types(batch.samples.dtype, batch.locations.dtype)
    return torch.promote_types(either, torch.float32)


def _cosines(batch: Batch) -> Tensor:
    """(B, B) dot products of normalised embeddings: samples down, locations across."""
    z = F.normalize(batch.samples.to(_dtype(batch)), dim=1)
    return z @ F.normalize(batch.locations.to(_dtype(batch)), dim=1).T


def _all_count(batch: Batch, negatives: str) -> bool:
    """Whether every other pair is known to be a negative. No other device is waited for."""
    place = batch.place
    known = negatives == "joint" and place.device.type == "cpu"
    return known and len(place.unique()) == len(place)


def _left_out(batch: Batch, negatives: str, rows: slice = slice(None)) -> Tensor:
    """`rows` of (B, B): true where two pairs are not each other's negatives; no pair is its own."""
    left_out = batch.place[rows, None] == batch.place
    if negatives == "within_modality":
        left_out |= batch.modality[rows, None] != batch.modality
    left_out[:, rows].fill_diagonal_(False)
    return left_out


class NTXent(Objective):
    """`nt_xent` with its learned temperature.

    The inverse temperature starts at 1/0.07 and is clamped at 100 after each step; a clamp in the
    forward pass would freeze it there, since its gradient would vanish.

    Args:
        direction: see `nt_xent`.
        negatives: see `nt_xent`.

    Raises:
        ValueError: at an unknown direction or kind of negatives.

    Example:
        >>> round(NTXent().log_scale.exp().item(), 2)
        14.29

    Source: as `nt_xent`; temperature and clamp are those of CLIP (Radford et al., arXiv
    2103.00020).
    """

    def __init__(
        self, direction: Direction = "modality_to_location", negatives: Negatives = "joint"
    ) -> None:
        super().__init__()
        _check(negatives, direction)
        self.direction = direction
        self.negatives = negatives
        self.log_scale = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))

    def forward(self, batch: Batch) -> Tensor:
        """The loss of one batch."""
        return nt_xent(batch, self.log_scale, self.direction, self.negatives)

    @torch.no_grad()
    def clamp_(self) -> None:
        """Keep the scale in [1, 100]; called after the optimiser's step."""
        self.log_scale.clamp_(0.0, LARGEST_LOG_SCALE)


def siglip(batch: Batch, log_scale: Tensor, bias: Tensor, negatives: Negatives = "joint") -> Tensor:
    """The sigmoid loss of SigLIP: every pair of the batch is told apart by itself.

    With z and e the L2-normalised embeddings of samples and locations and t = exp(log_scale)::

        L = -1/B sum_i sum_j log sigmoid( y_ij (t z_i.e_j + b) )

    where y_ij is 1 for i = j and -1 otherwise. Pairs at the same coordinates as i are left out of
    the sum over j, which is an addition of this project: in the paper every other pair is a
    negative. Computed in float32 (float64 stays float64).

    Args:
        batch: B pairs, of one modality or of several.
        log_scale: scalar, the logarithm of t.
        bias: scalar b.
        negatives: as for `nt_xent`.

    Returns:
        Scalar loss.

    Raises:
        ValueError: at an unknown kind of negatives.

    Example:
        >>> z, ids = torch.eye(4), torch.arange(4)
        >>> batch = Batch(z, z, torch.zeros_like(ids), ids)
        >>> round(siglip(batch, torch.tensor(math.log(100.0)), torch.tensor(-50.0)).item(), 6)
        0.0

    Source: Zhai et al., "Sigmoid Loss for Language Image Pre-Training" (ICCV 2023, arXiv
    2303.15343); the formula is that of the authors' code.
    """
    _check(negatives)
    with torch.autocast(batch.samples.device.type, enabled=False):
        cosines = _cosines(batch)
        logits = log_scale.to(cosines.dtype).exp() * cosines + bias.to(cosines.dtype)
        sign = 2 * torch.eye(len(logits), dtype=logits.dtype, device=logits.device) - 1
        # Beyond, nothing is left to learn, and gradients are too faint to be multiplied fast.
        certain = (sign * logits).clamp_max(-math.log(FAINT))
        likelihood = F.logsigmoid(certain).masked_fill(_left_out(batch, negatives), 0.0)
        return -likelihood.sum() / len(logits)


class SigLIP(Objective):
    """`siglip` with its learned scale, which starts at 10, and bias, which starts at -10.

    The scale is clamped to [1, 100] after each step, as that of `NTXent`; the authors' code does
    not clamp it.

    Args:
        negatives: see `nt_xent`.

    Raises:
        ValueError: at an unknown kind of negatives.

    Example:
        >>> round(SigLIP().log_scale.exp().item(), 2)
        10.0

    Source: as `siglip`.
    """

    def __init__(self, negatives: Negatives = "joint") -> None:
        super().__init__()
        _check(negatives)
        self.negatives = negatives
        self.log_scale = nn.Parameter(torch.tensor(SIGLIP_LOG_SCALE))
        self.bias = nn.Parameter(torch.tensor(SIGLIP_BIAS))

    def forward(self, batch: Batch) -> Tensor:
        """The loss of one batch."""
        return siglip(batch, self.log_scale, self.bias, self.negatives)

    @torch.no_grad()
    def clamp_(self) -> None:
        """Keep the scale in [1, 100]; called after the optimiser's step."""
        self.log_scale.clamp_(0.0, LARGEST_LOG_SCALE)


def vicreg(
    batch: Batch, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
) -> Tensor:
    """VICReg between samples and locations: no negatives, but embeddings that may not collapse.

    With Z and E the embeddings (B, d) of samples and locations, not normalised::

        L = invariance s(Z, E) + variance (v(Z) + v(E)) + covariance (c(Z) + c(E))
        s(Z, E) = 1/(B d) sum_ik (Z_ik - E_ik)^2
        v(Z) = 1/d sum_k max(0, 1 - sqrt(Var(Z_k) + 1e-4))
        c(Z) = 1/d sum_(k != l) Cov(Z)_kl^2

    with variances and covariances over the batch, divided by B - 1. Computed in float32 (float64
    stays float64).

    Args:
        batch: B >= 2 pairs, of one modality or of several.
        invariance: weight of the distance between a sample and its location.
        variance: weight of the hinge that keeps each dimension's standard deviation at 1.
        covariance: weight of what decorrelates the dimensions.

    Returns:
        Scalar loss.

    Example:
        >>> z, ids = 2 * torch.cat([torch.eye(2), -torch.eye(2)]), torch.arange(4)
        >>> vicreg(Batch(z, z, torch.zeros_like(ids), ids)).item()
        0.0

    Source: Bardes, Ponce and LeCun, "VICReg: Variance-Invariance-Covariance Regularization for
    Self-Supervised Learning" (ICLR 2022, arXiv 2105.04906), Algorithm 1 and the coefficients
    of section 4.2. Algorithm 1 takes the mean over dimensions in s; section 4.1 takes the squared
    distance, with which the same coefficients would mean something else at every d. The authors'
    training code halves v, which Algorithm 1 does not: its 25 is ``variance=12.5`` here. The
    paper's expander network is left out: the loss acts on the embeddings that are tied.
    """
    dtype = _dtype(batch)
    with torch.autocast(batch.samples.device.type, enabled=False):
        z, e = batch.samples.to(dtype), batch.locations.to(dtype)
        spread = sum(F.relu(1 - (x.var(dim=0) + 1e-4).sqrt()).mean() for x in (z, e))
        shared = sum(_covariances(x).square().sum() / x.shape[1] for x in (z, e))
        return invariance * F.mse_loss(z, e) + variance * spread + covariance * shared


def _covariances(x: Tensor) -> Tensor:
    """(d, d) covariances of the columns of (B, d), with zeros on the diagonal."""
    centred = x - x.mean(dim=0)
    square = centred.T @ centred / (len(x) - 1)
    return square - square.diagonal().diag()


class VICReg(Objective):
    """`vicreg` with its coefficients; nothing in it is learned.

    Args:
        invariance: see `vicreg`.
        variance: see `vicreg`.
        covariance: see `vicreg`.

    Example:
        >>> len(list(VICReg().parameters()))
        0

    Source: as `vicreg`.
    """

    def __init__(
        self, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
    ) -> None:
        super().__init__()
        self.coefficients = (invariance, variance, covariance)

    def forward(self, batch: Batch) -> Tensor:
        """The loss of one batch."""
        return vicreg(batch, *self.coefficients)


def content(samples: Tensor) -> Tensor:
    """What a sample says, in few numbers: a fixed summary that nothing learns.

    A profile (B, C) is its own content. A patch (B, C, H, W) is averaged to 4 x 4. Tokens (B, T),
    integers below `BUCKETS` with 0 for padding, become the mean of 64 normal numbers fixed for each
    token: a random projection of how often each occurs.

    Args:
        samples: (B, ...), floats, or integers for tokens.

    Returns:
        (B, c) float.

    Raises:
        ValueError: where samples have another shape.

    Example:
        >>> content(torch.rand(2, 3, 16, 16)).shape
        torch.Size([2, 48])

    Source: summaries chosen by this project, for `fidelity`.
    """
    if samples.ndim == 2 and not samples.is_floating_point():
        return F.embedding_bag(samples, _token_vectors(samples.device), mode="mean", padding_idx=0)
    if samples.ndim == 2:
        return samples
    if samples.ndim == 4:
        return F.adaptive_avg_pool2d(samples, POOL).flatten(1)
    raise ValueError(
        f"samples of shape {tuple(samples.shape)} have no content here: fidelity reads profiles "
        "(B, C), patches (B, C, H, W) and tokens (B, T)"
    )


@lru_cache(maxsize=2)
def _token_vectors(device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(BUCKETS, TOKEN_CONTENT, generator=generator).to(device)


def fidelity(
    batch: Batch,
    log_scale: Tensor,
    decoders: Sequence[nn.Module],
    contents: Mapping[int, Tensor],
    weight: float = 0.5,
    direction: Direction = "modality_to_location",
    negatives: Negatives = "joint",
) -> Tensor:
    """Alignment, and what it would erase: each modality's own content stays readable.

    With M the modalities in the batch, z_i the embedding of sample i (not normalised), x_i its
    standardised content (`content`, c_m numbers) and W_m, b_m the linear decoder of its modality::

        L = (1 - weight) nt_xent + weight 1/M sum_m 1/(B_m c_m) sum_(i in m) |W_m z_i + b_m - x_i|^2

    A decoder that knows nothing has an error of about 1, a perfect one of 0: the second term is one
    minus the share of content that can be read linearly, whatever the modality. Computed in float32
    (float64 stays float64).

    Args:
        batch: B pairs, of one modality or of several.
        log_scale: as for `nt_xent`.
        decoders: by number m of modality, (B_m, d) to (B_m, c_m).
        contents: by number m of modality, (B_m, c_m) of all its samples in the batch, in order.
        weight: 0 is `nt_xent`, 1 a linear auto-encoder of contents that ties nothing.
        direction: as for `nt_xent`.
        negatives: as for `nt_xent`.

    Returns:
        Scalar loss.

    Raises:
        ValueError: at an unknown direction or kind of negatives.

    Example:
        >>> z, ids = torch.eye(4), torch.arange(4)
        >>> batch = Batch(z, z, torch.zeros_like(ids), ids)
        >>> perfect = fidelity(batch, torch.tensor(4.6), [nn.Identity()], {0: z}, weight=1.0)
        >>> perfect.item()
        0.0

    Source: a design of this project, from no paper. The question, what does alignment erase, is
    that of Thoreau, Levillain and Derksen (arXiv 2509.17943); the objective is not theirs.
    """
    with torch.autocast(batch.samples.device.type, enabled=False):
        z = batch.samples.to(_dtype(batch))
        errors = [F.mse_loss(decoders[m](z[batch.modality == m]), x) for m, x in contents.items()]
        alignment = nt_xent(batch, log_scale, direction, negatives)
        return (1 - weight) * alignment + weight * torch.stack(errors).mean()


class Decoder(nn.Linear):
    """The linear decoder of one modality: embedding (B, d) to standardised content (B, c).

    Weights start at zero: it then says the mean of every sample and needs no seed, so that what it
    comes to read owes nothing to chance.

    Args:
        samples: (N, ...) of the modality, from which the contents' mean and spread are taken.
        dim: length d of an embedding.
    """

    def __init__(self, samples: Tensor, dim: int) -> None:
        contents = content(samples)
        with torch.device("meta"):  # no random number is drawn for weights that start at zero
            super().__init__(dim, contents.shape[1])
        self.to_empty(device=samples.device)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)
        self.standardise = Standardise(contents)

    def content(self, samples: Tensor) -> Tensor:
        """The standardised content (B, c) of samples (B, ...): what to read."""
        return self.standardise(content(samples))


class Fidelity(NTXent):
    """`fidelity` with its temperature and its decoders, both learned.

    The decoder of a modality that a batch does not hold rests, as its encoder does.

    Args:
        weight: share of the loss that keeps content, in [0, 1].
        direction: see `nt_xent`.
        negatives: see `nt_xent`.

    Raises:
        ValueError: a weight outside [0, 1], an unknown direction or kind of negatives; in
            `forward`, a batch without the samples themselves.

    Example:
        >>> rain = Modality("rain", [[0, 0], [9, 9]], torch.rand(2, 12), lambda dim: nn.Identity())
        >>> objective = Fidelity(weight=0.5)
        >>> objective.prepare({"rain": rain}, dim=8)
        >>> len(objective.decoders)
        1

    Source: as `fidelity`, a design of this project.
    """

    reads_samples = True

    def __init__(
        self,
        weight: float = 0.5,
        direction: Direction = "modality_to_location",
        negatives: Negatives = "joint",
    ) -> None:
        super().__init__(direction, negatives)
        if not 0 <= weight <= 1:
            raise ValueError(f"weight={weight}: it must be in [0, 1]")
        self.weight = weight
        self.decoders: Any = nn.ModuleList()

    def prepare(self, modalities: Mapping[str, Modality], dim: int) -> None:
        """Make a decoder for each modality, from the spread of its first 4,096 samples."""
        for modality in modalities.values():
            some = torch.arange(min(4096, len(modality.lonlat)), device=modality.lonlat.device)
            self.decoders.append(Decoder(modality.samples[some], dim))

    def forward(self, batch: Batch) -> Tensor:
        """The loss of one batch, which must hold the samples themselves."""
        if batch.raw is None:
            raise ValueError("fidelity reads the samples themselves: give them in Batch.raw")
        contents = {m: self.decoders[m].content(x) for m, x in batch.raw.items()}
        return fidelity(
            batch,
            self.log_scale,
            self.decoders,
            contents,
            self.weight,
            self.direction,
            self.negatives,
        )


OBJECTIVES = Registry("objective", nt_xent=NTXent, siglip=SigLIP, vicreg=VICReg, fidelity=Fidelity)
