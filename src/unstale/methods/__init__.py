"""How a stale gradient becomes a step: the slots, their parts, and the catalogue of published methods."""

from unstale.methods.admission import EveryPush, MaxDelay
from unstale.methods.base import Method
from unstale.methods.block import Block, State, Step, per_worker, scalar, vector
from unstale.methods.catalogue import (
    Entry,
    asgd,
    backup,
    catalogue,
    dana,
    dana_dc,
    dana_ga,
    dana_sa,
    dana_slim,
    dc_asgd,
    delay_adaptive,
    fedbuff,
    ga,
    get,
    heavy_ball_asgd,
    multi_asgd,
    nag_asgd,
    names,
    sa,
    sync,
)
from unstale.methods.correction import AdaptiveDelayCompensation, DelayCompensation, NoCorrection
from unstale.methods.gate import Barrier, Open, Standing
from unstale.methods.gather import Each, Mean
from unstale.methods.local import OneGradient
from unstale.methods.part import Part
from unstale.methods.penalty import Delay, Gap, NoPenalty, NormGap, RootDelay
from unstale.methods.predict import AlongAllMomenta, AlongOwnMomentum, Here
from unstale.methods.scale import AverageStep
from unstale.methods.slots import Admission, Correction, Gate, Gather, Local, Penalty, Predict, Scale, StepSize, Update
from unstale.methods.step_size import DelayAdaptive, Scheduled
from unstale.methods.update import HeavyBall, MomentumPerWorker, Nesterov, NesterovPerWorker, Sgd

__all__ = [
    "AdaptiveDelayCompensation",
    "Admission",
    "AlongAllMomenta",
    "AlongOwnMomentum",
    "AverageStep",
    "Barrier",
    "Block",
    "Correction",
    "Delay",
    "DelayAdaptive",
    "DelayCompensation",
    "Each",
    "Entry",
    "EveryPush",
    "Gap",
    "Gate",
    "Gather",
    "HeavyBall",
    "Here",
    "Local",
    "MaxDelay",
    "Mean",
    "Method",
    "MomentumPerWorker",
    "Nesterov",
    "NesterovPerWorker",
    "NoCorrection",
    "NoPenalty",
    "NormGap",
    "OneGradient",
    "Open",
    "Part",
    "Penalty",
    "Predict",
    "RootDelay",
    "Scale",
    "Scheduled",
    "Sgd",
    "Standing",
    "State",
    "Step",
    "StepSize",
    "Update",
    "asgd",
    "backup",
    "catalogue",
    "dana",
    "dana_dc",
    "dana_ga",
    "dana_sa",
    "dana_slim",
    "dc_asgd",
    "delay_adaptive",
    "fedbuff",
    "ga",
    "get",
    "heavy_ball_asgd",
    "multi_asgd",
    "nag_asgd",
    "names",
    "per_worker",
    "sa",
    "scalar",
    "sync",
    "vector",
]
