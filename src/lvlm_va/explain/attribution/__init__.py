"""Attribution: what in an image moved the classifier's logit, and by how much (Sec. 4.1).

The default is exact DeepLIFT-SHAP, whose values sum to f(x) − E f(b) on any network made of affine maps,
element-wise functions, maxima, products of activations, softmax and normalisation (`operations` has the
rules). Integrated gradients and gradient SHAP are there for networks that do what has no rule; `protocol`
says what anybody's method must have.
"""

from lvlm_va.explain.attribution.attribute import Attribution, Explainer, attribute
from lvlm_va.explain.attribution.methods import METHODS, Method, find_method
from lvlm_va.explain.attribution.protocol import AttributionMethod

__all__ = ["METHODS", "Attribution", "AttributionMethod", "Explainer", "Method", "attribute", "find_method"]
