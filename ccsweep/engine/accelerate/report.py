"""What was done to a model, and what is promised of it: how many answers may change, by an exact bound."""

from math import ceil, log, log1p
from typing import NamedTuple

from ccsweep.engine.accelerate.tracing.chains import Left

CONFIDENCE = 0.95
NAMED = 3
"""Names given where many stayed for one reason."""


class Report(NamedTuple):
    """What was done to a model; ``print`` shows it."""

    chains: tuple[str, ...]
    """One line for each chain that runs in the engine."""
    left: tuple[Left, ...]
    """All that stays as it was."""
    keep: str
    """What counts as the same answer."""
    max_disagreement: float
    """The share of answers that was allowed to change."""
    observed: float
    """Share of held-out answers that gates and int8 change, in whatever mix of plans."""
    bound: float
    """No larger share of all answers changes, with ``confidence``; 0 where nothing is gated or in int8."""
    confidence: float
    n: int
    """Held-out samples that both were found on; nothing was chosen by them."""
    notes: tuple[str, ...] = ()

    @property
    def disagreement(self) -> float:
        """The observed share, as an engine's plan calls it."""
        return self.observed

    @property
    def exact(self) -> bool:
        """Whether nothing but zeros is left out, in float32."""
        return self.bound == 0

    def __str__(self) -> str:
        lines = list(self.chains)
        reasons: dict[str, list[str]] = {}
        for name, reason in self.left:
            reasons.setdefault(reason, []).append(name)
        for reason, names in reasons.items():
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            lines.append(f"left as it was: {', '.join(names[:NAMED])}{more}: {reason}")
        lines.append(f"kept: {self.keep}")
        counted = f"changed answers: {self.observed:.2%} of {self.n:,} held out"
        if self.exact:
            lines.append(f"{counted}; only zeros are left out, which changes nothing but rounding")
        else:
            lines.append(f"{counted}, at most {self.bound:.3%} of all with {self.confidence:.0%} confidence")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def upper_bound(changed: int, samples: int, confidence: float = CONFIDENCE) -> float:
    """The largest share of changed answers that ``changed`` of ``samples`` do not rule out.

    Clopper & Pearson, Biometrika 26 (1934), one-sided: the share p at which so few or fewer would be seen
    with probability ``1 - confidence``. It holds for samples that are drawn independently, and that nothing
    was chosen by.
    """
    from scipy.stats import beta

    if changed >= samples:
        return 1.0
    return float(beta.ppf(confidence, changed + 1, samples - changed))


def samples_needed(share: float, confidence: float = CONFIDENCE) -> int:
    """How many samples, none of them changed, rule out more than ``share``, which is above 0."""
    return 1 if share >= 1 else ceil(log(1 - confidence) / log1p(-share))
