"""Channel statistics: one pass over the images answers what every metric needs."""

from prune_core.statistics.collect import STATISTICS_VERSION, collect
from prune_core.statistics.costly import GradientProduct, NuclearNorm, Rank, SignedGradientProduct
from prune_core.statistics.covariances import Covariance
from prune_core.statistics.filters import FilterGradientProduct, FilterGradientSquares
from prune_core.statistics.flow import SynapticFlow
from prune_core.statistics.histograms import AverageHistogram, Edges, PixelHistogram, histogram
from prune_core.statistics.independence import NuclearChange
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
    Magnitude,
    Moments,
    ZeroFraction,
)
from prune_core.statistics.position_entropy import PositionEntropy, SoftmaxOf
from prune_core.statistics.requests import (
    Answer,
    Collector,
    FilterRequest,
    InputRequest,
    MapRequest,
    NetworkRequest,
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
    "Covariance",
    "Edges",
    "FilterGradientProduct",
    "FilterGradientSquares",
    "FilterRequest",
    "GradientProduct",
    "InputMoments",
    "InputRequest",
    "Magnitude",
    "MapRequest",
    "Maps",
    "Moments",
    "NetworkRequest",
    "NuclearChange",
    "NuclearNorm",
    "Patches",
    "PixelHistogram",
    "PositionEntropy",
    "Rank",
    "Request",
    "SecondMoments",
    "SignedGradientProduct",
    "SoftmaxOf",
    "StatisticsError",
    "SynapticFlow",
    "ZeroFraction",
    "collect",
    "histogram",
    "moments_bytes",
    "moments_of",
]
