"""The schemas of the tables, for writing and reading, with their version in the metadata.

A row of `cells` is a cell: one dataset, seed, metric, budget and ratio. Columns that a failed
cell never reached are null. The columns of `NESTED` hold the cell's smaller tables in the same
file, so that a cell is written atomically; `results.load` leaves them out. The table `scores` has
a row for every channel of a baseline and metric, with the channel's importance. Cells that use
the same scores, such as cells of different ratios, share these rows through `scores_key`. In it,
`layer` is the number of a channel group, from 0 in the order of `group_names`; in a chain, each
convolution has a group of its own.
"""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = 8
VERSION_KEY = b"prune_sweep.schema"

STAGES = ("baseline", "pruned", "compensated", "recalibrated", "finetuned")
STAGES_BEFORE_TRAINING = STAGES[1:-1]
SPLITS = ("validation", "test")
MEASURES = ("top1", "top5", "loss")
LATENCY_BATCHES = (1, 256)
STATUSES = ("ok", "diverged", "out_of_memory", "timeout", "failed")
SCRATCH = "scratch"
"""The `metric` of networks that were trained from new weights."""
UNPRUNED = "unpruned"
"""The `metric` of the control that fine-tunes the unpruned network."""
CONTROLS = (SCRATCH, UNPRUNED)
"""Values of `metric` that are not metrics: in these cells nothing ranked the channels."""
NO_COMPENSATION = "none"
"""The `compensation` of cells whose weights pruning does not change, controls among them."""
FINETUNE = "finetune"
"""The `finetune` of cells whose spec names no recipe of fine-tuning."""
ONE_SHOT = "one_shot"
"""The `schedule` of cells that are pruned once, controls among them."""

_IDENTITY = [
    ("key", pa.string(), "hash of everything that changes the cell's numbers"),
    ("baseline_key", pa.string(), "hash of what changes its baseline's numbers"),
    ("baseline_checksum", pa.string(), "checksum of its baseline's weights"),
    ("sweep", pa.string(), "name of the sweep that ran the cell"),
    ("status", pa.string(), "ok, diverged, out_of_memory, timeout or failed"),
    ("error", pa.string(), "why the cell is not ok"),
    ("traceback", pa.string(), "for an error: the frames of prune-sweep and the innermost frame"),
    ("dataset", pa.string(), "name of the data set in the spec"),
    ("source", pa.string(), "where its images come from"),
    ("dataset_fingerprint", pa.string(), "hash of all its decoded images and labels"),
    ("classes", pa.int32(), "classes of the data set"),
    ("train_images", pa.int32(), "images of the training part"),
    ("validation_images", pa.int32(), "training images held out for validation"),
    ("test_images", pa.int32(), "test images, for the final accuracy"),
    ("own_validation", pa.bool_(), "whether the source has validation images of its own"),
    ("images_skipped", pa.int32(), "images of the source that cannot be read and are left out"),
    ("train_duplicates", pa.int32(), "training images of the source that repeat an earlier one"),
    ("validation_duplicates", pa.int32(), "own validation images that are training images, too"),
    ("test_duplicates", pa.int32(), "test images of the source that are training images, too"),
    ("test_duplicates_other_label", pa.int32(), "those of them that have another label there"),
    ("variant", pa.string(), "name of the network, or file and function of a person's own"),
    ("width", pa.float64(), "multiplier of the network's widths"),
    ("network_options", pa.string(), "options of the network, JSON"),
    ("groups", pa.string(), "which channel groups can be pruned: all or inner"),
    (
        "combine",
        pa.string(),
        "how the scores of a group's producers become one: mean, sum or max",
    ),
    ("image_height", pa.int32(), "height of the images that the network reads, pixels"),
    ("image_width", pa.int32(), "width of the images that the network reads, pixels"),
    (
        "weights",
        pa.string(),
        "fingerprint of the file with the weights that the baseline starts from; null if it was "
        "trained from new ones",
    ),
    ("seed", pa.int64(), "seed of baseline, metric and fine-tuning"),
    ("metric", pa.string(), "metric with the options that differ from their defaults"),
    ("metric_options", pa.string(), "all options of the metric, JSON"),
    ("normalisation", pa.string(), "how scores of different channel groups are made comparable"),
    ("scope", pa.string(), "local: every group alike; global: one ranking; or widths_of"),
    ("budget", pa.string(), "rule that turns the ratio into widths"),
    ("widths_of", pa.string(), "for scope widths_of: metric whose global ranking set the widths"),
    ("min_channels", pa.int32(), "fewest channels a group may keep"),
    ("min_channels_fraction", pa.float64(), "the same as a fraction of the group's width"),
    ("round_to", pa.int32(), "widths are multiples of this"),
    (
        "compensation",
        pa.string(),
        "how weights make up for removed channels, with the options that differ from their "
        "defaults; or none",
    ),
    ("compensation_options", pa.string(), "all options of the compensation, JSON"),
    ("finetune", pa.string(), "name of the fine-tuning recipe in the spec"),
    (
        "finetune_recipe",
        pa.string(),
        "the whole fine-tuning recipe, JSON; null in rows of earlier versions, whose identity has "
        "it",
    ),
    (
        "schedule",
        pa.string(),
        "one_shot: prune once to the ratio; or iterative with its options: score, prune and "
        "fine-tune in steps",
    ),
    ("schedule_options", pa.string(), "all options of the schedule, JSON"),
    ("ratio", pa.float64(), "target: fraction to keep of what ratio_of names"),
    ("ratio_of", pa.string(), "what the ratio counts: parameters, macs or channels"),
    ("epochs", pa.int32(), "epochs of the baseline"),
    ("baseline_images", pa.int32(), "training images in an epoch of the baseline"),
    ("finetune_epochs", pa.int32(), "epochs after pruning"),
    ("finetune_images", pa.int32(), "training images in an epoch after pruning"),
    ("scores_key", pa.string(), "key of the rows in the scores table that ranked the channels"),
    ("identity", pa.string(), "JSON text whose hash is the key"),
]
_OUTCOME = [
    ("parameter_ratio", pa.float64(), "achieved: parameters over parameters_full"),
    ("mac_ratio", pa.float64(), "achieved: macs over macs_full"),
    ("parameters", pa.int64(), "trainable parameters of the pruned network, recounted"),
    ("parameters_full", pa.int64(), "trainable parameters of the baseline"),
    ("macs", pa.int64(), "multiply-accumulates per image of the pruned network"),
    ("macs_full", pa.int64(), "multiply-accumulates per image of the baseline"),
    (
        "group_names",
        pa.list_(pa.string()),
        "name of each channel group, in the order of widths and kept",
    ),
    ("widths", pa.list_(pa.int32()), "kept channels of each channel group"),
    ("widths_full", pa.list_(pa.int32()), "channels of each group of the baseline"),
    ("collapsed", pa.bool_(), "whether some group was cut down to its floor"),
]
_OF_STAGE = {
    "compensated": "pruned network with compensation, before recalibration; null without",
}
_EVALUATIONS = [
    (
        f"{stage}_{split}_{measure}",
        pa.float64(),
        f"{measure} on {split} images, {_OF_STAGE.get(stage, f'{stage} network')}",
    )
    for stage in STAGES
    for split in SPLITS
    for measure in MEASURES
]
_LATENCY = [
    (f"latency_{of}{batch}{figure}_ms", pa.float64(), f"{what} inference time per image, {words}")
    for of, net in (("", "pruned"), ("full_", "unpruned"))
    for batch in LATENCY_BATCHES
    for figure, what in (("", "median"), ("_iqr", "interquartile range of the"))
    for words in [f"{net} network at batch {batch}, in milliseconds"]
]
_PROVENANCE = [
    ("seconds_baseline", pa.float64(), "training of the baseline, which cells share"),
    ("seconds_statistics", pa.float64(), "passes over the images that this metric's scores needed"),
    (
        "seconds_statistics_shared_by",
        pa.int32(),
        "number of statistics that share this time: one pass collects several",
    ),
    ("seconds_scoring", pa.float64(), "computing the scores from weights and statistics"),
    ("seconds_prune", pa.float64(), "choosing and removing channels"),
    (
        "seconds_moments",
        pa.float64(),
        "passes over the images for the second moments that the compensation needs, which cells "
        "share; null for none and for the sequential form",
    ),
    (
        "seconds_compensate",
        pa.float64(),
        "solving for the compensated weights and changing them; for the sequential form also its "
        "passes over the images",
    ),
    ("seconds_recalibrate", pa.float64(), "re-estimating batch normalisation"),
    ("seconds_finetune", pa.float64(), "training after pruning"),
    ("seconds_evaluate", pa.float64(), "all evaluations of the cell"),
    (
        "seconds",
        pa.float64(),
        "the whole cell, without the shared baseline, statistics and second moments",
    ),
    ("started_at", pa.timestamp("us", tz="UTC"), "when the cell began"),
    ("finished_at", pa.timestamp("us", tz="UTC"), "when the cell ended"),
    ("host", pa.string(), "machine that ran the cell"),
    ("device", pa.string(), "processor or GPU that ran the cell"),
    ("threads", pa.int32(), "CPU threads that the cell used"),
    ("precision", pa.string(), "of training; scores and evaluations are always in fp32"),
    ("git_revision", pa.string(), "commit of prune-sweep, if it runs from a checkout"),
    ("version_prune_sweep", pa.string(), "version of prune-sweep"),
    ("version_python", pa.string(), "version of Python"),
    ("version_torch", pa.string(), "version of torch"),
    ("version_torchvision", pa.string(), "version of torchvision"),
    ("version_ray", pa.string(), "version of Ray"),
    ("version_numpy", pa.string(), "version of NumPy"),
]
_EPOCH = [("epoch", pa.int32()), ("loss", pa.float64()), ("accuracy", pa.float64())]
_STEP = [
    ("step", pa.int32()),
    ("ratio", pa.float64()),
    ("parameters", pa.int64()),
    ("macs", pa.int64()),
    ("pruned_validation_top1", pa.float64()),
    ("pruned_test_top1", pa.float64()),
    ("finetuned_validation_top1", pa.float64()),
    ("finetuned_test_top1", pa.float64()),
    ("seconds", pa.float64()),
]
_NESTED = [
    (
        "history",
        pa.list_(pa.struct([*_EPOCH, ("step", pa.int32())])),
        "fine-tuning, one row per epoch: training loss in nats and accuracy; step of the schedule, "
        "null for one_shot",
    ),
    ("kept", pa.list_(pa.list_(pa.int32())), "indices of the kept channels of each group"),
    (
        "baseline_history",
        pa.list_(pa.struct(_EPOCH)),
        "training of the baseline, one row per epoch: training loss in nats and accuracy",
    ),
    (
        "steps",
        pa.list_(pa.struct(_STEP)),
        "where each step of a schedule ended: its target ratio, size, accuracies before and after "
        "fine-tuning, and seconds; null for one_shot",
    ),
]
STEP = tuple(name for name, _ in _STEP)
"""What `steps` says of each step of a schedule."""
NESTED = tuple(name for name, _, _ in _NESTED)

CELLS = pa.schema(
    [
        pa.field(name, kind, metadata={"description": description})
        for name, kind, description in [
            *_IDENTITY,
            *_OUTCOME,
            *_EVALUATIONS,
            *_LATENCY,
            *_PROVENANCE,
            *_NESTED,
        ]
    ],
    metadata={VERSION_KEY: str(SCHEMA_VERSION)},
)

_INTEGERS = tuple(field.name for field in CELLS if pa.types.is_integer(field.type))

IMPORTANCES = pa.schema(
    [
        pa.field("scores_key", pa.string()),
        pa.field("baseline_key", pa.string()),
        pa.field("dataset", pa.string()),
        pa.field("seed", pa.int64()),
        pa.field("metric", pa.string()),
        pa.field("layer", pa.int32()),
        pa.field("channel", pa.int32()),
        pa.field("score", pa.float64()),
    ],
    metadata={VERSION_KEY: str(SCHEMA_VERSION)},
)


class SchemaError(ValueError):
    """A table has another schema version, or a row does not fit; the message says which."""


def table(rows: list[dict[str, object]]) -> pa.Table:
    """Rows of `cells` as a table of its schema; columns that a row leaves out are null.

    Raises
    ------
    SchemaError
        If a row has a column that the schema does not know, or a value of another type.
    """
    for row in rows:
        if unknown := sorted(set(row) - set(CELLS.names)):
            raise SchemaError(f"the cells table has no column {', '.join(unknown)}")
        if row.get("status") not in STATUSES:
            raise SchemaError(
                f"status {row.get('status')!r} is unknown; allowed: {', '.join(STATUSES)}"
            )
        for name in _INTEGERS:
            # Arrow would silently drop the decimals.
            if isinstance(row.get(name), float):
                raise SchemaError(f"a row does not fit the cells table: {name} is {row[name]}")
        # Arrow would silently make a list of the letters.
        if isinstance(names := row.get("group_names"), str):
            raise SchemaError(f"a row does not fit the cells table: group_names is {names!r}")
    try:
        return pa.Table.from_pylist(rows, schema=CELLS)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise SchemaError(f"a row does not fit the cells table: {error}") from error
