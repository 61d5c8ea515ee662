"""Channel statistics: one pass over the images answers what every metric needs."""

from prune_core.statistics.collect import STATISTICS_VERSION, collect
from prune_core.statistics.costly import GradientProduct, Rank
from prune_core.statistics.histograms import AverageHistogram, Edges, PixelHistogram, histogram
from prune_core.statistics.inputs import (
    InputMoments,
    Patches,
    SecondMoments,
    moments_bytes,
    moments_of,
)
from prune_core.statistics.maps import Maps
from prune_core.statistics.moments import (
    AverageClassMoments,
    AverageMoments,
    ClassMoments,
    Moments,
    ZeroFraction,
)
from prune_core.statistics.requests import (
    Answer,
    Collector,
    InputRequest,
    MapRequest,
    Request,
    StatisticsError,
)

__all__ = [
    "STATISTICS_VERSION",
    "Answer",
    "AverageClassMoments",
    "AverageHistogram",
    "AverageMoments",
    "ClassMoments",
    "Collector",
    "Edges",
    "GradientProduct",
    "InputMoments",
    "InputRequest",
    "MapRequest",
    "Maps",
    "Moments",
    "Patches",
    "PixelHistogram",
    "Rank",
    "Request",
    "SecondMoments",
    "StatisticsError",
    "ZeroFraction",
    "collect",
    "histogram",
    "moments_bytes",
    "moments_of",
]
