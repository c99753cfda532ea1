"""Landmark networks that keras.applications lacks: functions that build them in Keras 3, weights random.

alexnet.py        AlexNet
googlenet.py      GoogLeNet, with or without its auxiliary classifiers
senet.py          SE-ResNet-50, -101 and -152, SENet-154
inputs.py         what the functions refuse, and what they say then

What learns, and the multiply-adds of convolutions and dense layers for one picture, as stated and as built here, with
1000 classes and the default size. `count_params()` of a model also counts the statistics of batch normalisation.

=============  ======================  ======================  ===========  =====================  ==============
network        paper                   parameters, stated             here  multiply-adds, stated            here
=============  ======================  ======================  ===========  =====================  ==============
AlexNet        Krizhevsky et al. 2012  60 M (abstract)          60,965,224  not stated                724,406,816
GoogLeNet      Szegedy et al. 2014     6.8 M (sum of Table 1)    6,998,552  1.5 G (section 1)       1,582,671,872
SE-ResNet-50   Hu et al. 2017          28.1 M (ratio 16)        28,088,024  3.87 G (Table 2)        3,860,488,192
SE-ResNet-101  Hu et al. 2017          49,326,872 [1]           49,326,872  7.60 G (Table 2)        7,574,937,600
SE-ResNet-152  Hu et al. 2017          66,821,848 [1]           66,821,848  11.32 G (Table 2)      11,288,993,792
SENet-154      Hu et al. 2017          115,088,984 [1]         115,088,984  20.75 G [1]            20,688,363,520
=============  ======================  ======================  ===========  =====================  ==============

[1] https://github.com/osmr/imgclsmob, which counts the authors' released models, and more than convolutions and dense
layers. GoogLeNet's Table 1 sums to 1.5 G with 34 M for the first convolution, whose plain 7x7 takes 118 M.
"""

from __future__ import annotations

from typing import Any

from edgecnn.zoo.alexnet import alexnet
from edgecnn.zoo.googlenet import googlenet
from edgecnn.accelerators.keras_layers import local_response_normalization_class
from edgecnn.zoo.senet import se_resnet50, se_resnet101, se_resnet152, senet154

__all__ = [
    "alexnet",
    "googlenet",
    "local_response_normalization_class",
    "se_resnet50",
    "se_resnet101",
    "se_resnet152",
    "senet154",
]


def __getattr__(name: str) -> Any:
    # The class needs Keras, which importing this package must not load.
    if name == "LocalResponseNormalization":
        return local_response_normalization_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
