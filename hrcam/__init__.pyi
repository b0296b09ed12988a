from . import datasets as datasets
from . import metrics as metrics
from . import plots as plots
from .base_models import build_resnet50 as build_resnet50
from .base_models import build_small_net as build_small_net
from .base_models import build_vgg16 as build_vgg16
from .base_models import build_vgg19 as build_vgg19
from .graph import describe_layers as describe_layers
from .graph import feature_layers as feature_layers
from .heads import build_gap_classifier as build_gap_classifier
from .heads import build_hrcam_model as build_hrcam_model
from .heads import pooled_layers as pooled_layers
from .maps import cam as cam
from .maps import grad_cam as grad_cam
from .maps import hr_cam as hr_cam
from .normalize import min_max_normalize as min_max_normalize
from .saving import load_model as load_model
from .training import PooledFeatures as PooledFeatures
from .training import evaluate_classifier as evaluate_classifier
from .training import fit_base_model as fit_base_model
from .training import fit_hrcam_head as fit_hrcam_head
from .training import pool_features as pool_features

__version__: str
