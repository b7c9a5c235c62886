"""The paper's baselines (Sec. 5.2, Figs. 8 and 9), on any classifier and any `ImageSet`.

    method                       group labels of training    group labels of validation
    SUBG     `subg`              yes                         yes (chooses the epoch; not without validation)
    DFR^Val  `dfr`               no                          yes (trains on them)
    DFR^Tr   `dfr`, "training"   yes                         yes (chooses C; not with a single C)
    JTT      `jtt`               no                          yes (chooses T, λ_up and the epoch; not with
                                                             the caller's judge)

Right-for-the-right-reasons with ground-truth masks (RRR) and the control (λ = 0) read no group labels; both
are `alignment.training.fine_tune`.
"""

from lvlm_va.alignment.baselines.dfr import dfr
from lvlm_va.alignment.baselines.jtt import jtt
from lvlm_va.alignment.baselines.result import Baseline
from lvlm_va.alignment.baselines.subg import subg

__all__ = ["Baseline", "dfr", "jtt", "subg"]
